"""What the loop knows of a problem: F for given rows of states. A solver's table with a model is one such problem, a
user's `step(carry, x)` another."""  # noqa: D205, D209

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from pcm_jax.recurrence.window import Place
from pcm_jax.types import Array, PyTree


class Evaluation(NamedTuple):
    """One batched call. step: F(x) `[W, B, ...]`, like the states. memory: what later rows read of the k rows before
    these, and of these, `[k + W, B, ...]`. emitted: what is kept of every row, for the result.
    """  # noqa: D205

    step: PyTree
    memory: Array | None = None
    emitted: PyTree = None


class Recurrence(Protocol):
    """x_{i+1} = F_i(x_i, m_{i-1}, .., m_{i-k}), m_i = M_i(x_i): T rows, states of any pytree with leaves `[B, ...]`."""

    @property
    def num_steps(self) -> int:
        """T."""

    @property
    def depth(self) -> int:
        """k, how many memories of earlier rows a row reads."""

    @property
    def recurrent(self) -> PyTree:
        """For every leaf of the state whether it depends on its own past; None: all do."""

    def edge(self, first: PyTree) -> PyTree:
        """Shapes `[k, B, ...]` of the memories before a window, None if k = 0; first: the first state."""

    def emits(self, first: PyTree) -> PyTree:
        """Shapes `[T, ...]` of what all rows emit."""

    def rows(self, place: Place) -> Any:
        """What slopes and certificates may look at; it has a `variance`, the unit of norms, `[W, B]` or `[W, 1]`."""

    def evaluate(self, rows: Any, x: PyTree, place: Place, share: Array | None, edge: Array | None) -> Evaluation:
        """F of the window's rows.

        Args:
            rows: what `rows` returned.
            x: states `[W, B, ...]`.
            share: lambda `[W, B]`, the fine-tuned model's part in every row; None without one.
            edge: `[k, B, ...]`, the memories of the rows before the window, oldest first; None if k = 0.
        """

    def preview(self, rows: Any, x: PyTree, memory: Array | None, at: Array, best: PyTree) -> PyTree:
        """What row `at` `[B]` of the window shows of the sample; `best` where it shows nothing."""
