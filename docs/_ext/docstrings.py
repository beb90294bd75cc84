"""This package's docstrings as reStructuredText.

A docstring here is plain text: `code` in single backticks, sections (Args, Returns, Raises, Example, Reference), fields
of a dataclass as paragraphs `name: ..`, formulas indented. Nothing in it has to be escaped; that is done here.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

TITLES = {
    "Args": "Arguments",
    "Returns": "Returns",
    "Raises": "Raises",
    "Example": "Example",
    "Examples": "Example",
    "Reference": "Reference",
    "References": "References",
}
_SECTION = re.compile(rf"^({'|'.join(TITLES)}):\s*(.*)$")
_ITEM = re.compile(r"^([A-Za-z_*][\w*.]*(?:, [A-Za-z_*][\w*.]*)*): +(.*)$")
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)|``[^`]+``")


def escaped(text: str) -> str:
    """Text of a paragraph: what stands in backticks is code, everything else means itself."""
    parts, end = [], 0
    for match in _CODE.finditer(text):
        code = " ".join((match[1] or match[0].strip("`")).split())
        before = r"\ " if match.start() and _glued(text, match.start() - 1) else ""
        after = r"\ " if _glued(text, match.end()) else ""
        parts += [_literal(text[end : match.start()]), before, f"``{code}``", after]
        end = match.end()
    return "".join([*parts, _literal(text[end:])])


def _literal(text: str) -> str:
    return re.sub(r"[\\*|`]|_(?=\W|$)", lambda match: f"\\{match[0]}", text)


def _glued(text: str, at: int) -> bool:
    return at < len(text) and (text[at].isalnum() or text[at] == "_")


def restructured(lines: list[str], fields: set[str]) -> list[str]:
    """The docstring's lines; `fields`: of the dataclass that it documents."""
    body: list[str] = []
    sections: list[tuple[str, list[str]]] = []
    for line in lines:
        found = _SECTION.match(line)
        if found:
            sections.append((found[1], [found[2]] if found[2] else []))
        elif sections and (not line.strip() or line.startswith(" ")):
            sections[-1][1].append(line)
        elif sections and sections[-1][1] and sections[-1][1][-1].strip():
            sections[-1][1].append(line)  # the second line of "Reference: .."
        else:
            body.append(line)
    out = _paragraphs(body, fields)
    for name, content in sections:
        out += ["", f".. rubric:: {TITLES[name]}", ""]
        content = textwrap.dedent("\n".join(content)).strip("\n").splitlines()
        if name.startswith("Example"):
            language = "pycon" if content and content[0].startswith(">>>") else "python"
            out += [f".. code-block:: {language}", "", *(f"   {line}" for line in content)]
        elif name in ("Args", "Raises"):
            out += _items(content)
        else:
            out += _paragraphs(content, set())
    return [*out, ""]


def _items(lines: list[str]) -> list[str]:
    """`name: text` with indented continuation lines, as a definition list."""
    entries: list[list[str]] = []
    for line in lines:
        if line.startswith(" ") and entries:
            entries[-1].append(line.strip())
        elif line.strip():
            entries.append([line])
    out = []
    for entry in entries:
        found = _ITEM.match(entry[0])
        if found is None:
            out += [escaped(" ".join(entry)), ""]
        else:
            out += [_term(found[1]), f"   {escaped(' '.join([found[2], *entry[1:]]))}", ""]
    return out


def _term(names: str) -> str:
    return ", ".join(f"``{name}``" for name in names.split(", "))


def _paragraphs(lines: list[str], fields: set[str]) -> list[str]:
    """Text, indented formulas, and fields."""
    out: list[str] = []
    for chunk in re.split(r"\n\s*\n", "\n".join(lines).strip("\n")):
        rows = chunk.splitlines()
        if not rows:
            continue
        if all(row.startswith("    ") for row in rows):
            out += [".. code-block:: text", "", *(f"   {row}" for row in textwrap.dedent(chunk).splitlines()), ""]
            continue
        pieces: list[tuple[str | None, list[str]]] = [(None, [])]
        for row in rows:
            found = _ITEM.match(row)
            if found and set(found[1].split(", ")) <= fields:
                pieces.append((found[1], [found[2]]))
            elif row.startswith("- "):
                pieces.append(("-", [row[2:]]))
            else:
                pieces[-1][1].append(row.strip())
        for names, text in pieces:
            if not text:
                continue
            whole = escaped(" ".join(text))
            if names is None:
                out += [whole, ""]
            else:
                out += [f"* {whole}", ""] if names == "-" else [_term(names), f"   {whole}", ""]
    return out


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Handler of autodoc-process-docstring."""
    shown = getattr(inspect.unwrap(obj), "__doc__", None) if callable(obj) else None
    if dataclasses.is_dataclass(obj) and shown and shown.startswith(f"{getattr(obj, '__name__', '')}("):
        lines[:] = []  # the one that dataclasses write themselves
        return
    fields = set(getattr(obj, "__annotations__", {})) if inspect.isclass(obj) else set()
    lines[:] = restructured(list(lines), fields)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
