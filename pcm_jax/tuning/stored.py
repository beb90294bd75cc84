"""Plans as JSON objects; what a damaged or foreign file holds is a ValueError that names the file and the key."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pcm_jax.files import read_json
from pcm_jax.tuning.cost import Run

KIND = "pcm_jax plan"
Reader = Callable[[Any], Any]


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of the `Plan` in a file."""
    if not path.is_file():
        raise ValueError(f"there is no plan {path}; write one with Plan.save")
    content = read_json(path)
    if content.pop("kind", None) != KIND:
        raise ValueError(f"{path} is no plan: its key 'kind' is not {KIND!r}; write one with Plan.save")
    found = _object(content, _PLAN, str(path))
    if found["window"] > found["steps"]:
        raise ValueError(f"{path}: the key 'window' is {found['window']} of {found['steps']} steps; tune again")
    return found


def _object(content: Any, readers: Mapping[str, Reader], where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{where} must be an object, got {content!r}; tune again")
    if odd := sorted(content.keys() ^ readers.keys()):
        what = "lacks the key" if odd[0] in readers else "has the unknown key"
        raise ValueError(f"{where} {what} {odd[0]!r}; tune again and write it with Plan.save")
    found = {}
    for key, reader in readers.items():
        try:
            found[key] = reader(content[key])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: the key {key!r} {error}; tune again and write it with Plan.save") from error
    return found


def _kind(kind: type, words: str, fits: Callable[[Any], bool] = lambda value: True) -> Reader:
    def read(value: Any) -> Any:
        # True is an int to Python, and 1 is no float; neither is what was written.
        right = isinstance(value, kind) and isinstance(value, bool) == (kind is bool)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value, right = float(value), True
        if not right or not fits(value):
            raise ValueError(f"must be {words}, got {value!r}")
        return value

    return read


def _optional(reader: Reader) -> Reader:
    return lambda value: None if value is None else reader(value)


def _list(reader: Reader) -> Reader:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise ValueError(f"must be a list, got {value!r}")
        return tuple(reader(each) for each in value)

    return read


_COUNT = _kind(int, "a whole number of at least 1", lambda value: value >= 1)
_BYTES = _kind(int, "a number of bytes", lambda value: value >= 0)
_TIME = _kind(float, "a number above 0", lambda value: value > 0)
_SIZE = _kind(float, "a number of at least 0", lambda value: value >= 0)
_FLAG = _kind(bool, "true or false")
_TEXT = _kind(str, "a text")


def _point(value: Any) -> tuple[int, float]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"must hold pairs [rows, seconds], got {value!r}")
    return _COUNT(value[0]), _TIME(value[1])


def _rows(value: Any) -> tuple[tuple[int, float], ...]:
    points = _list(_point)(value)
    counts = [rows for rows, _ in points]
    if not points or sorted(set(counts)) != counts:
        raise ValueError("must hold at least one pair, of ascending rows")
    return points


_RUN: dict[str, Reader] = {
    "window": _COUNT,
    "microbatch": _optional(_COUNT),
    "rounds": _TIME,
    "bound": _optional(_SIZE),
    "seconds": _TIME,
    "converged": _FLAG,
    "memory": _optional(_BYTES),
}
_PLAN: dict[str, Reader] = {
    "subject": _kind(str, "'sample' or 'scan'", lambda value: value in ("sample", "scan")),
    "sequential": _FLAG,
    "window": _COUNT,
    "microbatch": _optional(_COUNT),
    "steps": _COUNT,
    "batch": _COUNT,
    "tol": _SIZE,
    "seconds": _optional(_TIME),
    "sequential_seconds": _TIME,
    "expected": _TIME,
    "memory": _optional(_BYTES),
    "rows": _rows,
    "runs": _list(lambda value: Run(**_object(value, _RUN, "an entry"))),
    "devices": _COUNT,
    "device": _TEXT,
    "advice": _TEXT,
}
assert _RUN.keys() == {field.name for field in dataclasses.fields(Run)}
