"""Values that nothing can mean, found before anything is traced. Each message names the argument and the remedy."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def whole(name: str, value: Any, low: int = 1, high: int | None = None, hint: str = "") -> int:
    """`value` as an int in low..high. True is no number, and neither is 2.0, an array of one, or a traced one."""
    try:
        number = operator.index(value)
    except TypeError:  # jax's error for a traced number is one too
        number = None
    if number is None or isinstance(value, bool) or number < low or (high is not None and number > high):
        wanted = f", {low}..{high}" if high is not None else f" of at least {low}"
        raise ValueError(f"{name} must be a whole number{wanted}{_because(hint)}, got {shown(value)}")
    return number


def number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    hint: str = "",
) -> float:
    """`value` as a finite float in [low, high]; `above`, `below`: without that end itself."""
    array = isinstance(value, (np.ndarray, np.generic, jax.Array)) and not isinstance(value, jax.core.Tracer)
    real = type(value) in (int, float) or (array and value.ndim == 0 and jnp.issubdtype(value.dtype, jnp.number))
    real = real and not (array and jnp.issubdtype(value.dtype, jnp.complexfloating))
    try:
        found = float(value) if real else math.nan
    except OverflowError:  # 10**400
        found = math.inf
    fits = (low < found if above else low <= found) and (found < high if below else found <= high)
    if not math.isfinite(found) or not fits:
        raise ValueError(f"{name} must be {_range(low, high, above, below)}{_because(hint)}, got {shown(value)}")
    return found


def numbers(name: str, value: Any) -> np.ndarray:
    """`value` as a float64 array, NaN and infinities included."""
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers, got {shown(value)}") from error


def flag(name: str, value: Any) -> bool:
    """`value` as True or False; "no" is neither."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def function(name: str, value: Any, like: str) -> None:
    """`value` can be called."""
    if not callable(value):
        raise ValueError(f"{name} must be a function {like}, got {shown(value)}")


def channels(value: Any) -> None:
    """Widths of a UNet's levels."""
    if not isinstance(value, tuple) or not value:
        raise ValueError(f"channels must be a tuple of widths, one for each level, got {shown(value)}")
    for width in value:
        whole("channels", width)


_FLOATS = ("float16", "bfloat16", "float32", "float64")


def hashable(value: Any) -> bool:
    """Whether compiled programs can be kept by it; a frozen dataclass is not if a field of it is not."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def floats(name: str, value: Any, remedy: str) -> None:
    """`value` is an array, of a floating dtype that a state can have."""
    plain = isinstance(value, (jax.Array, np.ndarray)) and not isinstance(value, np.ma.MaskedArray)
    if not plain or value.dtype not in _FLOATS:
        kind = value.dtype if isinstance(value, np.ndarray) or hasattr(value, "dtype") else type(value).__name__
        kind = f"masked {kind}" if isinstance(value, np.ma.MaskedArray) else kind
        raise ValueError(f"{name} must be floating point ({', '.join(_FLOATS)}), got {kind}; {remedy}")


def one_key(name: str, key: Any) -> None:
    """`key` is one PRNG key, typed or of the old kind."""
    if not keys_of(key, ()):
        raise ValueError(f"{name} must be one PRNG key such as jax.random.key(0), got {shown(key)}")


def keys_of(key: Any, shape: tuple[int, ...]) -> bool:
    """Whether `key` is an array of PRNG keys of that shape."""
    if not isinstance(key, (jax.Array, np.ndarray)):
        return False
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key.shape == shape
    return key.dtype == jnp.uint32 and key.shape == (*shape, *jax.eval_shape(jax.random.PRNGKey, 0).shape)


def traced(what: str, remedy: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Shapes of `call(*arguments)`; what goes wrong in it is a ValueError that says what was called, and how."""
    try:
        return jax.eval_shape(call, *arguments)
    except ValueError:  # it says itself what is wrong
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:300]
        raise ValueError(f"{what} failed ({type(error).__name__}: {reason}); {remedy}") from error


def concrete(name: str, value: Any) -> np.ndarray:
    """The numbers that a user's function returned; a ValueError where it closes over values that are being traced."""
    try:
        return np.asarray(value)
    except jax.errors.TracerArrayConversionError:
        raise ValueError(
            f"{name} uses a value that jax.jit, vmap or grad is tracing; compiled samplers are kept by it, so it may "
            "only use numbers that are known before: Python's or NumPy's, made outside of the traced function or "
            "passed to it with static_argnums"
        ) from None


def shown(value: Any) -> str:
    """For messages: arrays by their shape, long things cut."""
    if isinstance(value, (jax.Array, np.ndarray)) and value.ndim:
        return f"{value.dtype} of shape {tuple(value.shape)}"
    if isinstance(value, int) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}.."


def shapes(tree: Any) -> str:
    """Shapes, for messages: float32(4, 6)."""
    if tree is None:
        return "None"
    texts = [
        f"{leaf.dtype}{tuple(leaf.shape)}" if hasattr(leaf, "dtype") else type(leaf).__name__
        for leaf in jax.tree.leaves(tree)
    ]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts[:4])}{', ..' if len(texts) > 4 else ''}]"


def _range(low: float, high: float, above: bool, below: bool) -> str:
    if low == -math.inf and high == math.inf:
        return "a finite number"
    if high == math.inf:
        return f"a finite number above {low:g}" if above else f"at least {low:g} and finite"
    return f"a number in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"


def _because(hint: str) -> str:
    return f" ({hint})" if hint else ""
