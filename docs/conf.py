"""Sphinx: `make docs` builds docs/_build/html with warnings as errors, and needs no network."""

import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE / "_ext")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
copyright = author
version = release = PROJECT["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "docstrings", "mathml", "rounds_figure", "gallery_page"]
exclude_patterns = ["_build", "_ext", "_static"]
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
# Blocks that experiments.site.readme writes stand between comments, which Sphinx keeps out of the page.
highlight_language = "python"

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
# A name that two modules export, such as History, links to one of them.
suppress_warnings = ["ref.python"]
default_role = "code"

html_theme = "furo"
html_title = "pcm_jax"
html_static_path = ["_static"]
html_extra_path = ["../experiments/results/gallery.html"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
