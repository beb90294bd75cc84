"""The figure of rounds as HTML; docs/_static/rounds.js draws it, docs/_ext/rounds_figure.py puts it on a page."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

KEPT = ("steps", "shape", "exact", "methods")


def figure_html(numbers: Mapping[str, Any]) -> str:
    """Controls, places for the drawings, and the numbers of `rounds.json` as the script reads them."""
    data = json.dumps({name: numbers[name] for name in KEPT}, separators=(",", ":")).replace("<", "\\u003c")
    chosen = "".join(
        f'<label><input type="radio" name="rounds-method" value="{html.escape(name)}"> {html.escape(name)}</label>'
        for name in numbers["methods"]
    )
    about = f"<code>{html.escape(numbers['command'])}</code>, {html.escape(numbers['device'])}"
    return f"""<figure class="rounds" id="rounds">
<fieldset class="rounds-methods"><legend>Method</legend>{chosen}</fieldset>
<div class="rounds-control"><label for="rounds-slider">Round</label>
<input id="rounds-slider" type="range" min="1" max="1" value="1" step="1">
<button type="button" id="rounds-play">Play</button></div>
<div class="rounds-pictures"><div id="rounds-curve"></div><div id="rounds-samples"></div></div>
<p id="rounds-says" role="status" aria-live="polite"></p>
<noscript><p>The figure needs JavaScript. The table below shows the same run.</p></noscript>
<figcaption>Error of each state of one digit against the sequential trajectory, after each round.
Numbers: {about}.</figcaption>
<script type="application/json" id="rounds-data">{data}</script>
</figure>"""
