"""A progress bar where tqdm is installed; the library does not insist on it."""

from __future__ import annotations

import contextlib
import importlib.util
from typing import Any


class _Silent(contextlib.AbstractContextManager["_Silent"]):
    """Stands in for tqdm."""

    def __exit__(self, *exception: object) -> None: ...

    def update(self) -> None: ...

    def set_postfix(self, **numbers: str) -> None: ...


def progress_bar(total: int, start: int, unit: str, wanted: bool) -> Any:
    """A context manager with `update()` and `set_postfix(name=text)`."""
    if wanted and importlib.util.find_spec("tqdm"):
        from tqdm import tqdm

        return tqdm(total=total, initial=min(start, total), unit=unit, mininterval=2.0)
    return _Silent()
