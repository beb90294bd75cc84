"""The directive `rounds-figure`: experiments.site.figure on a page, and the script that draws it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from experiments.site.figure import figure_html

NUMBERS = Path(__file__).resolve().parents[2] / "experiments" / "results" / "rounds.json"


class RoundsFigure(SphinxDirective):
    """No argument; the numbers are those of the study."""

    def run(self) -> list[nodes.Node]:
        """The figure as one raw node."""
        self.env.note_dependency(str(NUMBERS))
        return [nodes.raw("", figure_html(json.loads(NUMBERS.read_text())), format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_directive("rounds-figure", RoundsFigure)
    app.add_js_file("rounds.js", loading_method="defer")
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
