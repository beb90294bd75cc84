"""Every public name of the package, and the reference pages' directives for them.

A room is a module that users import from: pcm_jax itself, what it exports, and every folder with an `__all__`. Its
public names are those of `__all__`, or of its top level where it has none.
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import pkgutil
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

import pcm_jax

APART = ("pcm_jax.types",)
"""Modules without a place in `pcm_jax.__all__` whose names users write all the same."""


def rooms() -> dict[str, ModuleType]:
    """Room -> module, pcm_jax first; `pcm_jax.certificates` is named as users reach it."""
    found = {"pcm_jax": pcm_jax}
    exported = {f"pcm_jax.{name}": getattr(pcm_jax, name) for name in pcm_jax.__all__}
    found |= {name: each for name, each in exported.items() if inspect.ismodule(each)}
    walked = pkgutil.walk_packages(pcm_jax.__path__, "pcm_jax.")
    packages = [name for _, name, is_package in walked if is_package and not name.split(".")[-1].startswith("_")]
    for name in (*packages, *APART):
        module = importlib.import_module(name)
        if name in APART or hasattr(module, "__all__"):
            found.setdefault(name, module)
    return found


def names(module: ModuleType) -> list[str]:
    """Public names of one room that are no modules, in alphabetical order, types before functions."""
    listed = getattr(module, "__all__", None)
    listed = _top_level(module) if listed is None else listed
    kept = [name for name in listed if not inspect.ismodule(getattr(module, name))]
    return sorted(kept, key=lambda name: (name.islower(), name))


def _top_level(module: ModuleType) -> list[str]:
    found = []
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append(node.target.id)
        elif isinstance(node, ast.Assign):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in found if not name.startswith("_")]


def public() -> list[str]:
    """Every public name with its room: pcm_jax.solvers.ddim."""
    return [f"{room}.{name}" for room, module in rooms().items() for name in names(module)]


def reference(room: str) -> str:
    """The page of one room: a directive for each name; one that an earlier page describes is a line that says so."""
    first: dict[int, str] = {}
    lines: list[str] = []
    for each, module in rooms().items():
        for name in names(module):
            value, path = getattr(module, name), f"{each}.{name}"
            described = is_class(value) or is_function(value)
            before = first.setdefault(id(value), path) if described else path
            if each == room:
                lines += _same(path, before, value) if before != path else _directive(path, value)
    return "\n".join(["```{eval-rst}", ".. py:currentmodule:: None", "", *lines, "```", ""])


def _directive(path: str, value: object) -> list[str]:
    if is_class(value):
        bare = ["   :undoc-members:"] if issubclass(value, enum.Enum) else []
        return [f".. autoclass:: {path}", "   :members:", *bare, ""]
    if is_function(value):
        return [f".. autofunction:: {path}", ""]
    return [f".. autodata:: {path}", "   :no-value:", ""]


def is_class(value: object) -> TypeGuard[type]:
    """Of this package; a name for somebody else's class is an alias."""
    return inspect.isclass(value) and value.__module__.split(".")[0] == "pcm_jax"


def is_function(value: object) -> bool:
    """Jitted ones too, and those with derivatives of their own."""
    return inspect.isfunction(value) or (callable(value) and hasattr(value, "__wrapped__"))


def _same(path: str, before: str, value: object) -> list[str]:
    kind, role = ("class", "class") if is_class(value) else ("function", "func")
    return [f".. py:{kind}:: {path}", "", f"   The same as :py:{role}:`{before}`.", ""]


def described(inventory: Path) -> set[str]:
    """Names in a built site's objects.inv (version 2: four lines of text, then compressed ones)."""
    packed = inventory.read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(packed).decode().splitlines()
    return {line.split(" ")[0] for line in lines if line.split(" ")[1].startswith("py:")}


def missing(found: Iterable[str]) -> list[str]:
    """Public names that are not among `found`."""
    return sorted(set(public()) - set(found))
