"""Links to gallery.html open the copy at the site's root; Sphinx alone would offer the file for download."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

PAGE = "experiments/results/gallery.html"


def opened(app: Sphinx, doctree: nodes.document) -> None:
    """Before Sphinx collects what is to be downloaded."""
    for link in list(doctree.findall(addnodes.download_reference)):
        if link["reftarget"].endswith(PAGE):
            here = app.builder.get_relative_uri(app.env.docname, "gallery")
            link.replace_self(nodes.reference("", "", *link.children, refuri=here, internal=True))


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx; html_extra_path in conf.py copies the page."""
    app.connect("doctree-read", opened, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
