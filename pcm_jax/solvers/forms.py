"""Linear forms in a method's state and predictions, from which the rows of a table are read off.

A method with several states per network call, or several calls per step, is written down as it is in its paper, on
forms in place of numbers. The state of a row is what its call sees. Two successive ones are both forms in some `x` of
the method's own, and eliminating that x leaves the row: x_{i+1} = a x_i + b f_i + sum_l h_l f_{i-l}.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Form:
    """scale x + sum_j terms[j] f_j, f_j what row j predicts."""

    scale: float = 0.0
    terms: Mapping[int, float] = dataclasses.field(default_factory=dict)

    def __add__(self, other: Form) -> Form:
        keys = self.terms.keys() | other.terms.keys()
        terms = {key: self.terms.get(key, 0.0) + other.terms.get(key, 0.0) for key in keys}
        return Form(self.scale + other.scale, terms)

    def __sub__(self, other: Form) -> Form:
        return self + -1.0 * other

    def __rmul__(self, factor: float) -> Form:
        return Form(factor * self.scale, {key: factor * value for key, value in self.terms.items()})


X = Form(1.0)


def said(row: int) -> Form:
    """f of a row."""
    return Form(0.0, {row: 1.0})


class Rows:
    """Collects rows."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, Mapping[int, float]]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, state: Form, following: Form) -> None:
        """The next row goes from `state` to `following`, forms in the same x."""
        a = following.scale / state.scale
        self._rows.append((a, (following - a * state).terms))

    def columns(self) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
        """a, b and the history by lag."""
        a = np.array([scale for scale, _ in self._rows])
        weights: dict[int, np.ndarray] = {0: np.zeros(len(a))}
        for row, (_, terms) in enumerate(self._rows):
            for key, value in terms.items():
                if value:
                    weights.setdefault(row - key, np.zeros(len(a)))[row] = value
        return a, weights.pop(0), weights
