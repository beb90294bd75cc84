"""What a user's own functions return, found by tracing them: the network, adapters, switches, clips, norms, slopes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.recurrence.callables import check_schedule
from pcm_jax.solvers import Solver
from pcm_jax.types import ModelFn

Shapes = tuple[tuple[tuple[int, ...], Any], ...]


def check_network(model_fn: Any, params: Any, noise: Any, cond: Any) -> None:
    """model_fn(params, x, t, cond) is a prediction like x."""
    if not checks.hashable(model_fn) or not callable(model_fn):
        raise ValueError(
            "model_fn must be a hashable function (params, x, t, cond) -> prediction, because compiled samplers are "
            "kept by it; wrap a Flax module with pcm_jax.networks.linen(module)"
        )
    _network(model_fn, *_described((params, noise, cond), "params and cond"))


def check_switch(
    solver: Solver,
    model_fn: Any,
    params: Any,
    noise: Any,
    cond: Any,
    *,
    adapter: Any,
    switch: Any,
    window: int,
    max_rounds: int,
) -> None:
    """A fine-tuned model and who decides on its share: both or none; lambda `[W, B]` in [0, 1]."""
    if (adapter is None) != (switch is None):
        missing = "switch= such as pcm_jax.switching.after(2)" if switch is None else "adapter= (a fine-tuned model)"
        raise ValueError(f"adapter and switch belong together: pass {missing} too")
    if adapter is None:
        return
    if isinstance(adapter, type) or not hasattr(adapter, "predict"):
        raise ValueError(
            "adapter must be an object such as pcm_jax.switching.FeatureSpace(params), got "
            f"{getattr(adapter, '__name__', type(adapter).__name__)}"
        )
    check_schedule(switch, len(solver), window, max_rounds)
    _adapter(model_fn, *_described((adapter, params, noise, cond), "adapter, params and cond"))


def check_clip(solver: Solver, noise_shape: tuple[int, ...], dtype: Any) -> None:
    """A clip that is a function gives data predictions back in their own shape."""
    if not callable(solver.clip):
        return
    data = jax.ShapeDtypeStruct(noise_shape, dtype)
    shape = checks.shapes(data)
    out = checks.traced(f"clip(data {shape})", "it takes and returns data predictions", solver.clip, data)
    if (getattr(out, "shape", None), getattr(out, "dtype", None)) != (data.shape, data.dtype):
        raise ValueError(f"clip returned {checks.shapes(out)} for data {shape}; it must be like its input")


@functools.lru_cache(maxsize=32)
def _network(model_fn: ModelFn, structure: Any, described: Shapes) -> None:
    params, noise, cond = structure.unflatten([jax.ShapeDtypeStruct(*pair) for pair in described])
    time = jax.ShapeDtypeStruct(noise.shape[:1], jnp.float32)
    what = f"model_fn(params, x {checks.shapes(noise)}, t {checks.shapes(time)}, cond {checks.shapes(cond)})"
    remedy = (
        "it must be a function (params, x, t, cond) -> prediction that JAX can trace, with the params and the cond of "
        "this network; wrap a Flax module with pcm_jax.networks.linen(module)"
    )
    out = checks.traced(what, remedy, model_fn, params, noise, time, cond)
    if getattr(out, "shape", None) != noise.shape:
        raise ValueError(
            f"the network returned {getattr(out, 'shape', type(out).__name__)} for an input of {noise.shape}; a "
            "prediction has the input's shape (drop extra outputs such as a learned variance)"
        )
    if out.dtype != noise.dtype:
        raise ValueError(
            f"the network returned {out.dtype} for an input of {noise.dtype}; end it with .astype(x.dtype), or draw "
            f"the noise in {out.dtype}"
        )


@functools.lru_cache(maxsize=32)
def _adapter(model_fn: ModelFn, structure: Any, described: Shapes) -> None:
    adapter, params, noise, cond = structure.unflatten([jax.ShapeDtypeStruct(*pair) for pair in described])
    time = jax.ShapeDtypeStruct(noise.shape[:1], jnp.float32)
    share = jax.ShapeDtypeStruct(noise.shape[:1], jnp.promote_types(noise.dtype, jnp.float32))

    def predict(adapter: Any, params: Any, noise: Any, cond: Any, time: Any, share: Any) -> Any:
        return adapter.predict(model_fn, params, noise, time, cond, share)

    remedy = "an adapter holds the parameters of this very network, fine-tuned"
    out = checks.traced(
        f"adapter.predict on x {checks.shapes(noise)}", remedy, predict, adapter, params, noise, cond, time, share
    )
    if (getattr(out, "shape", None), getattr(out, "dtype", None)) != (noise.shape, noise.dtype):
        raise ValueError(f"the adapter returned {out} for an input {noise}; it must be like the input")


def _described(tree: Any, what: str) -> tuple[Any, Shapes]:
    """Structure, and shapes and dtypes, of a tree of arrays: hashable."""

    def describe(leaf: Any) -> jax.ShapeDtypeStruct:
        if isinstance(leaf, (str, bytes)):
            raise TypeError(f"{leaf!r} is text")
        return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))

    try:
        described = jax.tree.map(describe, tree)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be pytrees of arrays: {str(error).splitlines()[0]}") from error
    structure: Any
    leaves, structure = jax.tree.flatten(described)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
