"""What a parameter means, and so which values it cannot have."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

NAN, INF = math.nan, math.inf
NOT_NUMBERS = ("a", 1j, [1.0], np.ones(2), object())


@dataclasses.dataclass(frozen=True)
class Kind:
    """value: one that is accepted. wrong: those that are not."""

    value: Any
    wrong: tuple[Any, ...]


def _none(optional: bool) -> tuple[Any, ...]:
    return () if optional else (None,)


def whole(value: Any, low: int = 1, high: int | None = None, optional: bool = False) -> Kind:
    """An int in low..high."""
    above = () if high is None else (high + 1,)
    return Kind(value, (low - 1, -7, 2.5, NAN, True, *NOT_NUMBERS, *above, *_none(optional)))


def number(value: Any, low: float = -INF, high: float = INF, *, out: tuple[float, ...] = (), optional: bool = False):
    """A finite float in low..high, without those in `out`."""
    beyond = (*((low - 0.5,) if low > -INF else ()), *((high + 0.5,) if high < INF else ()))
    return Kind(value, (NAN, INF, -INF, True, *NOT_NUMBERS, *beyond, *out, *_none(optional)))


def positive(value: Any, optional: bool = False) -> Kind:
    """A finite float above 0."""
    return number(value, 0.0, out=(0.0,), optional=optional)


def flag(value: bool, optional: bool = False) -> Kind:
    return Kind(value, ("no", 2, 0.5, np.ones(2), *_none(optional)))


def choice(value: Any, optional: bool = False) -> Kind:
    """One of a few names."""
    return Kind(value, ("no such thing", 3, True, *_none(optional)))


def widths(value: tuple[int, ...], low: int = 1) -> Kind:
    """Whole numbers, one for each level."""
    return Kind(value, ((), (low - 1,) * len(value), (2.5,) * len(value), ("a",) * len(value), "ab", 8, None))


def function(value: Any, optional: bool = False) -> Kind:
    return Kind(value, (3, "a", *_none(optional)))


def instance(value: Any, optional: bool = False) -> Kind:
    """An object of the library."""
    return Kind(value, (3, "a", object(), *_none(optional)))


def array(value: Any, *, nan: bool = False, optional: bool = False) -> Kind:
    """Numbers of one shape. nan: they may be NaN."""
    worse = () if nan else (np.full_like(np.asarray(value, np.float32), NAN),)
    return Kind(value, ("a", np.full(np.shape(value), "a"), object(), *worse, *_none(optional)))


@dataclasses.dataclass(frozen=True)
class Entry:
    """A call whose parameters are swept. rest: objects that stay, and parameters that other tests sweep."""

    call: Callable[..., Any]
    swept: dict[str, Kind]
    given: dict[str, Any]
    rest: tuple[str, ...] = ()
    of: Any = None
    runs: bool = True

    def parameters(self) -> set[str]:
        """Of the public name."""
        return {
            name
            for name, parameter in inspect.signature(self.of or self.call).parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        }

    def run(self, **changes: Any) -> Any:
        return self.call(**self.given | {name: kind.value for name, kind in self.swept.items()} | changes)


def entry(
    call: Callable[..., Any],
    *rest: str,
    of: Any = None,
    given: dict[str, Any] | None = None,
    runs: bool = True,
    **swept: Kind,
) -> Entry:
    """of: the public name, where `call` wraps it. given: objects that stay. runs: whether right values are tried."""
    return Entry(call, swept, given or {}, (*rest, *(given or {})), of, runs)
