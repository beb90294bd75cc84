r"""Low-rank adaptation (LoRA, arXiv 2106.09685) of a parameter pytree.

Every adapted kernel W `[.., in, out]` gets factors A `[.., in, r]` and B `[r, out]`:

    W + lambda (alpha / r) A B

which is one matrix product on the last axes for dense kernels `[in, out]`, convolutions `[height, width, in, out]` and
embeddings `[num, features]` alike. B starts at zero, so the adapted model starts as the base model. The merged form is
here; the factored form with a lambda for each batch row is in `pcm_jax.networks.factored`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.trees import describe, flatten, unflatten
from pcm_jax.types import Array, ArrayLike, Params

KERNEL = re.compile(r"(^|/)(kernel|embedding)$")
"""Names of the leaves that are adapted by default, Flax's."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LoRA:
    """factors: {"block/kernel": {"down": A, "up": B}}; scale: alpha / rank."""

    factors: dict[str, dict[str, Array]]
    scale: float = dataclasses.field(default=1.0, metadata={"static": True})

    def delta(self, name: str) -> Array:
        """dW = scale A B of one kernel, without lambda."""
        pair = self.factors[name]
        return self.scale * (pair["down"] @ pair["up"])


def init(
    params: Params,
    rank: int,
    key: Array,
    *,
    alpha: float | None = None,
    select: str | Callable[[str], bool] | None = None,
) -> LoRA:
    """Factors for the kernels of `params`: A random of variance 1 / fan-in, B zero.

    Args:
        params: the base model's.
        rank: r. A kernel whose matrix is smaller than that gets its own full rank.
        key: draws A.
        alpha: strength; default `rank`, for a scale of 1.
        select: which kernels: a regular expression searched in names like "block_0/dense/kernel", or a predicate of
            the name. Default: all leaves called kernel or embedding.

    Raises:
        ValueError: rank below 1 or above every selected matrix, a filter that matches nothing or no matrix.
    """
    rank = checks.whole("rank", rank)
    checks.one_key("key", key)
    if alpha is not None:
        checks.number("alpha", alpha, 0, above=True, hint="LoRA's strength; the scale is alpha / rank")
    flat = flatten(params)
    wanted = _predicate(select)
    names = [name for name in flat if wanted(name)]
    if not names:
        raise ValueError(f"the filter {select!r} matches none of the parameters: {', '.join(list(flat)[:6])}, ..")
    for name in names:
        if jnp.ndim(flat[name]) < 2:
            raise ValueError(f"{name} is {describe(flat[name])}, no matrix; make the filter match kernels alone")
        if not jnp.issubdtype(flat[name].dtype, jnp.floating):
            raise ValueError(f"{name} is {describe(flat[name])}, LoRA adapts floats; make the filter leave it out")
    sizes = {name: _matrix(flat[name]) for name in names}
    largest = max(min(size) for size in sizes.values())
    if rank > largest:
        raise ValueError(f"rank {rank} is above the largest matrix that the filter selects; choose 1..{largest}")
    factors = {}
    for name, name_key in zip(names, jax.random.split(key, len(names)), strict=True):
        kernel = flat[name]
        fan_in, out = sizes[name]
        r = min(rank, fan_in, out)
        down = jax.random.normal(name_key, (*kernel.shape[:-1], r), kernel.dtype) / math.sqrt(fan_in)
        factors[name] = {"down": down, "up": jnp.zeros((r, out), kernel.dtype)}
    return LoRA(factors, float(rank if alpha is None else alpha) / rank)


def check(params: Params, lora: LoRA) -> None:
    """ValueError that names the first kernel on which `lora` does not fit `params`: a LoRA of another model."""
    if not isinstance(lora, LoRA):
        raise ValueError(f"a LoRA such as pcm_jax.lora.init makes is wanted, got {type(lora).__name__}")
    flat = flatten(params)
    for name, pair in lora.factors.items():
        if name not in flat:
            raise ValueError(f"this LoRA is of another model: it adapts {name!r}, which the parameters do not have")
        down, up, shape = jnp.shape(pair["down"]), jnp.shape(pair["up"]), jnp.shape(flat[name])
        if (*down[:-1], up[-1]) != shape or down[-1] != up[0]:
            raise ValueError(
                f"this LoRA is of another model: {name!r} is {describe(flat[name])}, its factors are for {down} x {up}"
            )


def merge(params: Params, lora: LoRA, strength: ArrayLike | float = 1.0) -> Params:
    """W + lambda dW with one lambda = `strength` for all: an ordinary parameter tree, for a model of its own."""
    check(params, lora)
    if not isinstance(strength, jax.core.Tracer):
        checks.number("strength", strength, hint="lambda: 0 is the base model, 1 the fine-tuned one")
    flat: dict[str, Any] = dict(flatten(params))
    for name in lora.factors:
        flat[name] = flat[name] + jnp.asarray(strength * lora.delta(name), flat[name].dtype)
    return unflatten(flat, params)


def num_parameters(lora: LoRA) -> int:
    """Numbers that are trained."""
    if not isinstance(lora, LoRA):
        raise ValueError(f"a LoRA such as pcm_jax.lora.init makes is wanted, got {type(lora).__name__}")
    return sum(int(leaf.size) for leaf in jax.tree.leaves(lora))


def _predicate(select: str | Callable[[str], bool] | None) -> Callable[[str], bool]:
    if select is None:
        return lambda name: KERNEL.search(name) is not None
    if callable(select):
        return select
    try:
        pattern = re.compile(select)
    except (TypeError, re.error) as error:
        raise ValueError(f"select must be a regular expression or a predicate, got {select!r} ({error})") from error
    # A filter such as "conv" means the kernels there; one that names biases itself gets them, and the error above.
    return lambda name: pattern.search(name) is not None and (KERNEL.search(name) is not None or "bias" in select)


def _matrix(kernel: Any) -> tuple[int, int]:
    """(fan-in, out) of the matrix that a kernel is."""
    *rest, out = jnp.shape(kernel)
    return math.prod(rest), out
