"""Pytrees as flat dicts "a/b/c" -> leaf, and what differs between two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from pcm_jax.types import PyTree


def flatten(tree: PyTree) -> dict[str, Any]:
    """{"block/kernel": leaf}, in the tree's own order."""
    flat: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name in flat:
            raise ValueError(f"two leaves of the tree are both called {name!r}; rename one")
        flat[name] = leaf
    return flat


def unflatten(flat: Mapping[str, Any], like: PyTree) -> PyTree:
    """The tree of `like`'s structure with `flat`'s leaves."""
    return jax.tree.unflatten(jax.tree.structure(like), [flat[name] for name in flatten(like)])


def fingerprint(tree: PyTree) -> str:
    """16 hexadecimal digits that change with any name, dtype, shape or value of the tree."""
    digest = hashlib.sha256()
    for name, leaf in sorted(flatten(tree).items()):
        array = np.asarray(leaf, order="C")
        digest.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()[:16]


def describe(leaf: Any) -> str:
    """Dtype and shape, as in `float32 (3, 4)`."""
    return f"{np.dtype(leaf.dtype).name} {tuple(leaf.shape)}"


def first_mismatch(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """The first key on which two flat trees differ, as a sentence; None if names, shapes and dtypes are equal."""
    for name, leaf in expected.items():
        if name not in found:
            close = next(iter(key for key in found if key not in expected), None)
            return f"{name!r} is missing, expected {describe(leaf)}" + (f" (it has {close!r} instead)" if close else "")
        if describe(leaf) != describe(found[name]):
            return f"{name!r} is {describe(found[name])}, expected {describe(leaf)}"
    extra = next((name for name in found if name not in expected), None)
    return None if extra is None else f"{extra!r} ({describe(found[extra])}) is left over, nothing expects it"
