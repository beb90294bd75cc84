"""Two rounds in an iteration of the loop, so that its condition is read half as often: a trial, not an option.

A GPU's host reads that condition between rounds. What is saved has to be more than the second round that half of all
samples do not need: it is computed and dropped.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from jax import lax

from pcm_jax.recurrence import loop


def while_loop(proceed: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
    """`lax.while_loop` with two calls of `body` in an iteration, the second of which may not count."""

    def both(state: Any) -> Any:
        first = body(state)
        more, second = proceed(first), body(first)
        return jax.tree.map(lambda new, old: jnp.where(more, new, old), second, first)

    return lax.while_loop(proceed, both, state)


@contextlib.contextmanager
def two_rounds() -> Iterator[None]:
    """What is traced within has two rounds in an iteration."""
    with mock.patch.object(loop, "lax", types.SimpleNamespace(while_loop=while_loop)):
        yield
