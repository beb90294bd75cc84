"""The directive `rounds-figure`: the numbers of experiments/results/rounds.json, and the script that shows them."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

NUMBERS = Path(__file__).resolve().parents[2] / "experiments" / "results" / "rounds.json"
KEPT = ("steps", "shape", "exact", "methods", "command", "device")


class RoundsFigure(SphinxDirective):
    """No argument; the caption says how the numbers were made."""

    def run(self) -> list[nodes.Node]:
        """The figure as one raw node."""
        self.env.note_dependency(str(NUMBERS))
        numbers = json.loads(NUMBERS.read_text())
        data = json.dumps({name: numbers[name] for name in KEPT}, separators=(",", ":")).replace("<", "\\u003c")
        chosen = "".join(
            f'<label><input type="radio" name="rounds-method" value="{html.escape(name)}"> {html.escape(name)}</label>'
            for name in numbers["methods"]
        )
        about = f"{html.escape(numbers['command'])}, {html.escape(numbers['device'])}"
        text = f"""<figure class="rounds" id="rounds">
<fieldset class="rounds-methods"><legend>Method</legend>{chosen}</fieldset>
<div class="rounds-control"><label for="rounds-slider">Round</label>
<input id="rounds-slider" type="range" min="1" max="1" value="1" step="1">
<button type="button" id="rounds-play">Play</button></div>
<div class="rounds-pictures"><div id="rounds-curve"></div><div id="rounds-samples"></div></div>
<p id="rounds-says" role="status" aria-live="polite"></p>
<noscript><p>The figure needs JavaScript. The table below shows the same run.</p></noscript>
<figcaption>Error of each state of one digit against the sequential trajectory, after each round.
Numbers: <code>{about}</code>.</figcaption>
<script type="application/json" id="rounds-data">{data}</script>
</figure>"""
        return [nodes.raw("", text, format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("rounds-figure", RoundsFigure)
    app.add_js_file("rounds.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
