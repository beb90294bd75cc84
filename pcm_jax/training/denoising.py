"""The denoising loss of every prediction type that the solvers read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.schedules import Schedule
from pcm_jax.types import Array, ModelFn, Params, PredictionType


def target(prediction: PredictionType, schedule: Schedule, x0: Array, eps: Array, alpha: Array, sigma: Array) -> Array:
    r"""What the network should say about x = alpha x_0 + sigma eps; the inverse of `solvers.build.to_data`.

    epsilon: eps · data: x_0 · v: alpha eps - sigma x_0 (arXiv 2202.00512, appendix D) · velocity: eps - x_0
    (arXiv 2209.03003) · edm: (x_0 - c_skip x) / c_out (arXiv 2206.00364, table 1).

    Args:
        x0, eps: `[B, ...]`.
        alpha, sigma: broadcastable to x0, such as `[B, 1, 1, 1]`.
    """
    if prediction == "epsilon":
        return eps
    if prediction == "data":
        return x0
    if prediction == "v":
        return alpha * eps - sigma * x0
    if prediction == "velocity":
        return eps - x0
    if prediction == "edm":
        spread = schedule.sigma_data**2
        skip = spread / (sigma**2 + spread)
        out = sigma * schedule.sigma_data / jnp.sqrt(sigma**2 + spread)
        return (x0 - skip * (alpha * x0 + sigma * eps)) / out
    raise ValueError(f"unknown prediction {prediction!r}; choose one of {', '.join(get_args(PredictionType))}")


def input_scale(prediction: PredictionType, schedule: Schedule, sigma: Array) -> Array:
    """m in model(m x, t): 1, but EDM's c_in = 1 / sqrt(sigma^2 + sigma_data^2)."""
    return 1 / jnp.sqrt(sigma**2 + schedule.sigma_data**2) if prediction == "edm" else jnp.ones_like(sigma)


def denoising_loss(
    params: Params,
    model_fn: ModelFn,
    schedule: Schedule,
    batch: Mapping[str, Any],
    key: Array,
    *,
    prediction: PredictionType = "epsilon",
    label_dropout: float = 0.0,
    null_label: int | None = None,
) -> tuple[Array, dict[str, Array]]:
    r"""E || model(alpha x_0 + sigma eps, t, label) - target ||^2, averaged over samples and dimensions.

    Args:
        batch: {"x": `[B, ...]`, and "label": int32 `[B]` or any other conditioning under "cond", both optional}.
        key: draws t (`schedule.sample_times`), eps and the dropped labels.
        label_dropout: share of the labels replaced by `null_label`, for classifier-free guidance (arXiv 2207.12598).

    Returns:
        (loss, metrics): float32 scalars; metrics has the loss over the noisier and the cleaner half of the batch.

    Reference: arXiv 2006.11239, equation 14.
    """
    checks.number("label_dropout", label_dropout, 0, 1, hint="a share of the labels")
    if null_label is not None:
        checks.whole("null_label", null_label, 0)
    if label_dropout and null_label is None:
        raise ValueError("label_dropout needs null_label, the network's null class (its num_classes)")
    time_key, noise_key, drop_key = jax.random.split(key, 3)
    x0 = jnp.asarray(batch["x"])
    size = x0.shape[0]
    t = schedule.sample_times(time_key, size)
    eps = jax.random.normal(noise_key, x0.shape, x0.dtype)
    shape = (size,) + (1,) * (x0.ndim - 1)
    alpha, sigma = (jnp.asarray(value, x0.dtype).reshape(shape) for value in schedule.marginals(t))
    label = batch.get("label")
    if label is not None and label_dropout:
        dropped = jax.random.bernoulli(drop_key, label_dropout, (size,))
        label = jnp.where(dropped, jnp.int32(null_label), label)
    x = alpha * x0 + sigma * eps
    cond = batch.get("cond", label)
    said = model_fn(params, input_scale(prediction, schedule, sigma) * x, t, cond)
    wanted = target(prediction, schedule, x0, eps, alpha, sigma)
    each = jnp.mean(jnp.square(said - wanted).astype(jnp.float32).reshape(size, -1), axis=1)
    noisiness = (sigma / alpha).reshape(size)
    noisy = noisiness > jnp.median(noisiness)
    metrics = {"loss_noisy": _mean_where(each, noisy), "loss_clean": _mean_where(each, ~noisy)}
    return jnp.mean(each), metrics


def _mean_where(values: Array, mask: Array) -> Array:
    return jnp.sum(jnp.where(mask, values, 0.0)) / jnp.maximum(jnp.sum(mask), 1)
