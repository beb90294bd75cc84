"""Index arithmetic of the sliding window. Every sample of the batch has a front, and a window, of its own."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from pcm_jax.types import Array


def window_rows(front: Array, window: int) -> Array:
    """Step indices `[W, B]` of windows that start at `front` `[B]`. They may pass the end; nothing is clamped."""
    return front[None] + jnp.arange(window, dtype=front.dtype)[:, None]


def take_rows(values: Array, index: Array) -> Array:
    """values[index[w, b], b]: rows `[W, B]` of each sample's own axis 0."""
    return values[index, jnp.arange(values.shape[1])[None]]


def leading(flags: Array) -> Array:
    """How many of `flags` `[W, B]` are True before the first that is not: int32 `[B]`."""
    return jnp.sum(lax.cummin(flags.astype(jnp.int32), axis=0), axis=0, dtype=jnp.int32)


def slide(states: Array, shift: Array, last_good: Array, front: Array, guess: Array | None) -> Array:
    """The states of the next window.

    Args:
        states: `[W + 1, B, ...]`, states front .. front + W of this round.
        shift: `[B]`, how many states were accepted.
        last_good: `[B]`, index into `states` of the last finite one.
        front: `[B]`, where the next window starts.
        guess: `[T + 1, B, ...]`, a first guess for states that enter the window, or None.

    States that enter start from the guess, else as copies of the last one known. So do states behind one that is not
    finite: a network may overflow on a guess and be well on the trajectory.
    """
    source = window_rows(shift, states.shape[0])
    kept = take_rows(states, jnp.minimum(source, last_good[None]))
    if guess is None:
        return kept
    absolute = jnp.minimum(window_rows(front, states.shape[0]), guess.shape[0] - 1)
    entering = source >= states.shape[0]
    return jnp.where(entering.reshape(entering.shape + (1,) * (states.ndim - 2)), take_rows(guess, absolute), kept)
