"""Fields of a network that nothing can mean, found when it is traced. Each message names the field."""

from __future__ import annotations

import functools
import types
from collections.abc import Collection, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import flax.linen as nn

from pcm_jax import checks

_FLAX = ("parent", "name", "dtype", "scope")


def check(
    module: nn.Module,
    *,
    zero: Collection[str] = (),
    free: Collection[str] = (),
    flags: Collection[str] = (),
    known: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Every field has its type: whole numbers of at least 1, finite numbers above 0, flags, names, tuples of them.

    A field of type Any is a whole number, or a tuple with one for each level.

    Args:
        module: a Linen module with annotated fields.
        zero: fields whose whole numbers may be 0, and whose tuples may be empty.
        free: numbers that may be 0 or negative.
        flags: fields of type Any that are True or False, or a tuple of these.
        known: the names that a field of text has.

    Raises:
        ValueError: with the field's name and what it must be.
    """
    kind: Any = type(module)
    for name, hint in _hints(kind).items():
        value = getattr(module, name)
        options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        if value is None and type(None) in options:
            continue
        choices = [each for option in options if get_origin(option) is Literal for each in get_args(option)]
        choices += (known or {}).get(name, ())
        if choices:
            _among(name, value, choices)
        elif Any in options:
            _per_level(name, value, name in flags)
        else:
            _one(name, value, options, name in zero, name in free)
    _as_many(module)


@functools.lru_cache(maxsize=32)
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {name: hints[name] for name in kind.__dataclass_fields__ if name not in _FLAX}


def _among(name: str, value: Any, choices: Collection[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {checks.shown(value)}")


def _one(name: str, value: Any, options: tuple[Any, ...], zero: bool, free: bool) -> None:
    tuples = next((option for option in options if get_origin(option) is tuple), None)
    if tuples is not None:
        _tuple(name, value, get_args(tuples)[0], zero)
    elif bool in options:
        checks.flag(name, value)
    elif int in options:
        checks.whole(name, value, 0 if zero else 1)
    elif float in options:
        checks.number(name, value) if free else checks.number(name, value, 0, above=True)
    elif not isinstance(value, str):
        raise ValueError(f"{name} must be a name, got {checks.shown(value)}")


def _tuple(name: str, value: Any, element: Any, zero: bool) -> None:
    if not isinstance(value, tuple) or not (value or zero):
        raise ValueError(f"{name} must be a tuple with one entry for each level, got {checks.shown(value)}")
    for entry in value:
        if element is int:
            checks.whole(name, entry, 0 if zero else 1)
        elif element is Any:
            _per_level(name, entry, False)
        elif not isinstance(entry, str):
            raise ValueError(f"{name} must be names, got {checks.shown(entry)}")


def _per_level(name: str, value: Any, flags: bool) -> None:
    if isinstance(value, tuple) and value:
        for entry in value:
            _per_level(name, entry, flags)
    elif flags:
        checks.flag(name, value)
    else:
        checks.whole(name, value)


def _as_many(module: nn.Module) -> None:
    """As many blocks as levels, in diffusers' networks."""
    count = len(getattr(module, "block_out_channels", ()))
    for name in ("down_block_types", "up_block_types"):
        if count and len(getattr(module, name)) != count:
            raise ValueError(
                f"{name} names {len(getattr(module, name))} blocks and block_out_channels {count} levels; both must be "
                "as many"
            )
