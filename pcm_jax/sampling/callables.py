"""What a user's own functions return, found by tracing them: the network, adapters, switches, clips, norms, slopes."""

from __future__ import annotations

import functools
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.recurrence import History
from pcm_jax.solvers import Solver
from pcm_jax.switching import SwitchInput
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
    if not callable(switch) or not checks.hashable(switch) or isinstance(switch, type):
        raise ValueError(f"switch must be a hashable function such as pcm_jax.switching.after(2), got {switch!r}")
    if getattr(switch, "__module__", None) == "pcm_jax.switching.schedules" and isinstance(switch, FunctionType):
        raise ValueError(f"switch must be an object such as pcm_jax.switching.{switch.__name__}(..): call it first")
    steps = len(solver)
    measured = getattr(switch, "num_steps", steps)
    if measured != steps:
        raise ValueError(
            f"the switch's table was measured on a solver of {measured} rows, this one has {steps}; measure "
            "one with pcm_jax.training.calibrate"
        )
    # What a switch says later than in twice as many rounds as there are steps is clipped to [0, 1] by the loop.
    _share(switch, min(max_rounds, 2 * steps), window)
    _adapter(model_fn, *_described((adapter, params, noise, cond), "adapter, params and cond"))


def check_norm(norm: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """A norm of changes `[W, B, ...]` is one number for each state, and none is negative."""
    if not callable(norm) or not checks.hashable(norm):
        raise ValueError(f"a certificate's norm must be a function such as pcm_jax.norms.noise_units, got {norm!r}")
    _norm(norm, shape, jnp.dtype(dtype))


def check_slope(linearization: Any, solver: Solver, shape: tuple[int, ...], dtype: Any) -> None:
    """A slope is one number for each row and sample."""
    if isinstance(linearization, type) or not callable(getattr(linearization, "slope", None)):
        raise ValueError(
            "linearization must be an object such as pcm_jax.linearization.secant() (mind the parentheses)"
        )
    if not checks.hashable(linearization) or not hasattr(linearization, "needs_history"):
        raise ValueError(
            f"linearization must be hashable, with needs_history and slope(..), got {linearization!r}: compiled "
            "samplers are kept by it, so make it a frozen dataclass"
        )
    columns: Any = jax.tree.structure(solver)
    _slope(linearization, columns, len(solver), shape, jnp.dtype(dtype))


def check_clip(solver: Solver, shape: tuple[int, ...], dtype: Any) -> None:
    """A clip that is a function gives data predictions back in their own shape."""
    if not callable(solver.clip):
        return
    data = jax.ShapeDtypeStruct(shape, dtype)
    out = checks.traced(f"clip(data {_text(data)})", "it takes and returns data predictions", solver.clip, data)
    if (getattr(out, "shape", None), getattr(out, "dtype", None)) != (data.shape, data.dtype):
        raise ValueError(f"clip returned {_text(out)} for data {_text(data)}; it must be like its input")


@functools.lru_cache(maxsize=32)
def _network(model_fn: ModelFn, structure: Any, described: Shapes) -> None:
    params, noise, cond = structure.unflatten([jax.ShapeDtypeStruct(*pair) for pair in described])
    time = jax.ShapeDtypeStruct(noise.shape[:1], jnp.float32)
    what = f"model_fn(params, x {_text(noise)}, t {_text(time)}, cond {_text(cond)})"
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
        f"adapter.predict on x {_text(noise)}", remedy, predict, adapter, params, noise, cond, time, share
    )
    if (getattr(out, "shape", None), getattr(out, "dtype", None)) != (noise.shape, noise.dtype):
        raise ValueError(f"the adapter returned {out} for an input {noise}; it must be like the input")


@functools.lru_cache(maxsize=32)
def _share(switch: Any, rounds: int, window: int) -> None:
    """Ask the switch about every round, with rows that have not moved, that move, and that have not been seen."""
    with jax.ensure_compile_time_eval():
        row = jnp.arange(window, dtype=jnp.int32)[:, None]
        for change in (jnp.inf, 1.0, 0.0):
            residual = jnp.full((window, 1), change, jnp.float32)

            def ask(k: Any, residual: Any = residual) -> Any:
                return switch(SwitchInput(k, row, jnp.broadcast_to(k, row.shape), residual))

            remedy = "a switch takes a SwitchInput of arrays and returns lambda, without branching on their values"
            found = checks.traced("switch(see)", remedy, ask, jnp.int32(0))
            if getattr(found, "shape", None) != (window, 1):
                raise ValueError(
                    f"switch must return lambda [W, B] = {(window, 1)} here, one for each row it is shown (see.row), "
                    f"got {getattr(found, 'shape', type(found).__name__)}"
                )
            if jnp.issubdtype(found.dtype, jnp.complexfloating):
                raise ValueError(f"switch must return real numbers, got {found.dtype}; take their real part")
            share = np.asarray(jax.lax.map(ask, jnp.arange(rounds, dtype=jnp.int32)), np.float64)
            if not np.all((share >= 0) & (share <= 1)):
                where = int(np.argwhere(~((share >= 0) & (share <= 1)))[0][0])
                raise ValueError(
                    f"switch returned lambda outside [0, 1] in round {where}: {share[where].ravel()[0]:g}; "
                    "wrap it in jnp.clip(.., 0, 1)"
                )


@functools.lru_cache(maxsize=32)
def _norm(norm: Any, shape: tuple[int, ...], dtype: Any) -> None:
    change, variance = jax.ShapeDtypeStruct((1, *shape), dtype), jax.ShapeDtypeStruct((1, shape[0]), dtype)
    remedy = "a norm takes (change [W, B, ...], variance [W, B])"
    found = checks.traced(f"norm(change {_text(change)}, variance {_text(variance)})", remedy, norm, change, variance)
    if getattr(found, "shape", None) != variance.shape:
        raise ValueError(
            f"norm must return [W, B], one residual for each state, got {getattr(found, 'shape', found)}; reduce over "
            "the sample's own axes alone: axis=tuple(range(2, change.ndim))"
        )
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise ValueError(f"norm must return floats, got {found.dtype}")
    drawn = np.random.default_rng(0).normal(size=change.shape)
    with jax.ensure_compile_time_eval():
        for probe in (np.zeros_like(drawn), drawn, -drawn):
            said = np.asarray(norm(jnp.asarray(probe, dtype), jnp.ones(variance.shape, dtype)))
            if not np.all(said >= 0):
                raise ValueError(
                    f"norm returned {said[~(said >= 0)][0]:g} for finite changes; a residual is at least 0, as of "
                    "pcm_jax.norms.root_mean_square, or every state would be accepted at once"
                )


@functools.lru_cache(maxsize=32)
def _slope(linearization: Any, columns: Any, steps: int, shape: tuple[int, ...], dtype: Any) -> None:
    x = jax.ShapeDtypeStruct((steps, *shape), dtype)
    flags: Any = jax.ShapeDtypeStruct((steps, shape[0]), jnp.bool_)
    rows = columns.unflatten([jax.ShapeDtypeStruct((steps, 1), dtype)] * columns.num_leaves)
    before: Any = History(x, x, flags) if linearization.needs_history else None
    what = f"linearization.slope on states {_text(x)}"
    remedy = "it takes (rows, x, step, before, first) as pcm_jax.linearization.Linearization says"
    out = checks.traced(what, remedy, lambda *seen: linearization.slope(*seen, None), rows, x, x, before)
    if getattr(out, "shape", None) != (steps, shape[0]):
        raise ValueError(
            f"linearization.slope returned {getattr(out, 'shape', type(out).__name__)}; a slope is [W, B], here "
            f"{(steps, shape[0])}, one for each row and sample"
        )


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


def _text(tree: Any) -> str:
    """Shapes, for messages: float32(4, 6)."""
    if tree is None:
        return "None"
    texts = [
        f"{leaf.dtype}{tuple(leaf.shape)}" if hasattr(leaf, "dtype") else type(leaf).__name__
        for leaf in jax.tree.leaves(tree)
    ]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts[:4])}{', ..' if len(texts) > 4 else ''}]"
