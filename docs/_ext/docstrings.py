"""This package's docstrings as reStructuredText.

A docstring here is plain text: `code` in single backticks, sections (Args, Returns, Raises, Example, Reference), fields
of a dataclass as paragraphs `name: ..`, formulas indented. Nothing in it has to be escaped; that is done here.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import sys
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
        listed = [n for n, row in enumerate(rows) if row.startswith("- ")]
        first = listed[0] if listed else len(rows)
        for names, text in _fields(" ".join(row.strip() for row in rows[:first]), fields):
            out += [escaped(text), ""] if names is None else [_term(names), f"   {escaped(text)}", ""]
        for n, end in itertools.pairwise([*listed, len(rows)]):
            out += [f"* {escaped(' '.join(row.strip() for row in rows[n:end])[2:])}", ""]
    return out


def _fields(text: str, fields: set[str]) -> list[tuple[str | None, str]]:
    """(None, text before the first field), then (names, what is said of them): `a: ..; b, c: ..`."""
    if not fields:
        return [(None, text)] if text else []
    one = f"(?:{'|'.join(map(re.escape, sorted(fields, key=len, reverse=True)))})"
    parts = re.split(rf"(?:^|(?<=[.;] ))({one}(?:, {one})*): +", text)
    found: list[tuple[str | None, str]] = [(None, parts[0].strip())] if parts[0].strip() else []
    return found + [(names, said.strip().rstrip(";")) for names, said in zip(parts[1::2], parts[2::2], strict=True)]


def constant(name: str, value: Any) -> list[str]:
    """The text below an assignment, in the module of this package that makes it; a value has no docstring."""
    package = name.split(".")[0]
    for module in [each for path, each in sorted(sys.modules.items()) if path.split(".")[0] == package]:
        if vars(module).get(name.split(".")[-1]) is not value:
            continue
        body = ast.parse(inspect.getsource(module)).body
        for node, after in itertools.pairwise(body):
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            text = after.value if isinstance(after, ast.Expr) else None
            if isinstance(target, ast.Name) and target.id == name.split(".")[-1] and isinstance(text, ast.Constant):
                return inspect.cleandoc(str(text.value)).splitlines()
    return []


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Handler of autodoc-process-docstring."""
    shown = getattr(inspect.unwrap(obj), "__doc__", None) if callable(obj) else None
    if what == "data":
        lines[:] = restructured(constant(name, obj), set())
        return
    if dataclasses.is_dataclass(obj) and shown and shown.startswith(f"{getattr(obj, '__name__', '')}("):
        lines[:] = []  # the one that dataclasses write themselves
        return
    fields = set(getattr(obj, "__annotations__", {})) if inspect.isclass(obj) else set()
    lines[:] = restructured(list(lines), fields)


def skip(app: Sphinx, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Handler of autodoc-skip-member: fields of a NamedTuple are described by its docstring."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
