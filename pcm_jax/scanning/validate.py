"""Static mistakes in what `pcm.scan` is given. Each message names the leaf and the remedy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax.trees import describe
from pcm_jax.types import PyTree

_HELD = ("held_noise", "held_data")


def check_carry(init: PyTree, batch_axis: Any) -> None:
    """Floating-point leaves, and a batch axis where one was promised."""
    if batch_axis not in (0, None) or isinstance(batch_axis, bool):
        raise ValueError(
            "batch_axis must be 0 (samples along the first axis of every leaf of the carry) or None (the carry is one "
            f"sample), got {batch_axis!r}; move another axis to the front with jnp.moveaxis"
        )
    leaves = jax.tree_util.tree_leaves_with_path(init)
    if not leaves:
        raise ValueError("init has no leaves: there is nothing to iterate; lax.scan is what you want")
    sizes = {}
    for path, leaf in leaves:
        name = "init" + jax.tree_util.keystr(path)
        if not isinstance(leaf, (jax.Array, np.ndarray, np.generic, float, int)):
            raise ValueError(f"{name} is no array but a {type(leaf).__name__}; close over what is no number")
        kind = jnp.result_type(leaf)
        if jnp.issubdtype(kind, jax.dtypes.prng_key):
            raise ValueError(
                f"{name} is a random key: a carried key has to be split T times in a row. Split it before and pass the "
                "keys in xs: jax.random.split(key, T)"
            )
        if not jnp.issubdtype(kind, jnp.floating):
            raise ValueError(
                f"{name} is {kind}: rounds move states by real numbers. Pass counters in xs (jnp.arange(T)), close "
                "over labels, or cast it to float32"
            )
        if 0 in jnp.shape(leaf):
            raise ValueError(f"{name} is empty, shape {jnp.shape(leaf)}")
        if batch_axis == 0:
            if jnp.ndim(leaf) == 0:
                raise ValueError(
                    f"{name} is a scalar and has no batch axis: repeat it for every sample, jnp.full(B, ..), or pass "
                    "batch_axis=None if the carry is one sample"
                )
            sizes[name] = jnp.shape(leaf)[0]
    if len(set(sizes.values())) > 1:
        raise ValueError(
            f"the carry's leaves have batches of different size, {sizes}; with batch_axis=0 the first axis of every "
            "leaf is the batch; pass batch_axis=None if the carry is one sample"
        )


def check_length(xs: PyTree, length: Any) -> int:
    """T, the leading axis of every leaf of xs."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(xs):
        name = "xs" + jax.tree_util.keystr(path)
        if jnp.ndim(leaf) == 0:
            raise ValueError(f"{name} is a scalar; every leaf of xs has leading axis T, the number of steps")
        found[name] = jnp.shape(leaf)[0]
    if length is not None:
        if isinstance(length, bool) or not isinstance(length, int):
            raise ValueError(f"length must be a whole number, got {length!r}")
        found["length"] = length
    if not found:
        raise ValueError("xs has no leaves, so the number of steps is unknown: pass length=T")
    if len(set(found.values())) > 1:
        raise ValueError(f"the number of steps is not one number: {found}; leading axes of xs and length must be equal")
    steps = next(iter(found.values()))
    if steps < 1:
        raise ValueError(f"there are no steps: {found}; a scan of none returns init")
    return int(steps)


def check_step(step: Any, name: str) -> None:
    """Something to call."""
    if not callable(step):
        raise ValueError(f"{name} must be a function (carry, x) -> carry or (carry, y), got {type(step).__name__}")


def check_linearization(linearization: Any) -> None:
    """Slopes that need a solver's table are not for a step function."""
    if getattr(linearization, "column", None) in _HELD:
        raise ValueError(
            f"linearization {linearization.column} reads a solver's table and pcm.scan has none: use secant(), "
            "identity() or constant(value)"
        )


def check_result(name: str, carry: PyTree, found: PyTree, has_output: bool) -> PyTree:
    """A step returns a carry like the one it got, or (carry, y): y's shapes, or None."""
    wanted = _structure(carry)
    new, outputs = found, None
    if has_output:
        got = _structure(found[0] if isinstance(found, tuple) and len(found) == 2 else found)
        if not isinstance(found, tuple) or len(found) != 2 or got != wanted:
            raise ValueError(
                f"{name} must return a carry of init's structure {wanted}, or (carry, y), got {got}; return the carry "
                "as it came, leaf for leaf"
            )
        new, outputs = found
    for (path, leaf), after in zip(jax.tree_util.tree_leaves_with_path(carry), jax.tree.leaves(new), strict=True):
        if (jnp.shape(leaf), jnp.result_type(leaf)) != (after.shape, after.dtype):
            raise ValueError(
                f"{name} turns the carry's leaf {jax.tree_util.keystr(path) or 'init'} from {describe(leaf)} into "
                f"{describe(after)}; keep shape and dtype, such as with .astype(carry.dtype), or start from an init "
                "like the result"
            )
    return outputs


def check_same_trace(name: str, same: bool) -> None:
    """A step is a function of carry and x alone."""
    if not same:
        raise ValueError(
            f"{name} is another program when it is traced a second time: it has side effects in Python, such as a "
            "counter, a list that it appends to or numpy's random numbers. Pass what changes from step to step in xs"
        )


def check_trajectory(guess: PyTree, init: PyTree, steps: int) -> None:
    """All T + 1 states of a guess, the first one included."""
    if _structure(guess) != _structure(init):
        raise ValueError(
            f"guess must be a trajectory of the carry's structure {_structure(init)} or a step function, got "
            f"{_structure(guess)}"
        )
    for (path, leaf), first in zip(jax.tree_util.tree_leaves_with_path(guess), jax.tree.leaves(init), strict=True):
        if jnp.shape(leaf) != (steps + 1, *jnp.shape(first)):
            raise ValueError(
                f"guess{jax.tree_util.keystr(path)} must hold all {steps + 1} carries, init first: "
                f"{(steps + 1, *jnp.shape(first))}, got {jnp.shape(leaf)}"
            )


def check_pair(adapter_step: Any, switch: Any) -> None:
    """A fine-tuned step and who decides on its share: both or none."""
    if (adapter_step is None) != (switch is None):
        missing = (
            "switch= such as pcm_jax.switching.after(2)" if switch is None else "adapter_step= (the fine-tuned step)"
        )
        raise ValueError(f"adapter_step and switch belong together: pass {missing} too")


def _structure(tree: PyTree) -> Any:
    return jax.tree.structure(tree)
