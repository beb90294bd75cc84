"""What the trainer is given, checked before the first step compiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from pcm_jax import checks
from pcm_jax.training.state import Loss, TrainState
from pcm_jax.trees import describe, flatten

if TYPE_CHECKING:
    from pcm_jax.training.trainer import TrainConfig


def check_arguments(config: TrainConfig, loss: Any, params: Any, batches: Any, key: Any) -> None:
    """A loss, parameters that have gradients, batches whose position can be kept, and a key."""
    if not hasattr(config, "num_steps"):
        raise ValueError(f"config must be a TrainConfig, got {checks.shown(config)}")
    checks.function("loss", loss, "(params, batch, key) -> (scalar, metrics)")
    checks.one_key("key", key)
    flat = flatten(params)
    if not flat:
        raise ValueError("params holds no arrays: there is nothing to train")
    for name, leaf in flat.items():
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            found = describe(leaf) if hasattr(leaf, "dtype") else type(leaf).__name__
            raise ValueError(
                f"params must be arrays of floats, {name!r} is {found}; train the floats, pass the rest "
                "in the batch or as frozen="
            )
    wanted = ("__next__", "get_state", "set_state") if config.directory else ("__next__",)
    missing = [name for name in wanted if not hasattr(batches, name)]
    if missing:
        raise ValueError(
            f"batches must be an iterator with a position, as pcm_jax.data.batch_iterator makes; {missing[0]} is "
            f"missing in {type(batches).__name__}: pass iter(..), and for a run that keeps checkpoints get_state and "
            "set_state too"
        )


def check_batch(config: TrainConfig, loss: Loss, state: TrainState, batch: Any) -> None:
    """The first batch: of a size that divides into parts and devices, with a scalar loss."""
    split = {name: entry for name, entry in batch.items() if name != "frozen"} if isinstance(batch, dict) else batch
    for name, leaf in flatten(split).items():
        for what in ("accumulate", "data_parallel"):
            parts = getattr(config, what)
            if parts > 1 and (not jnp.ndim(leaf) or jnp.shape(leaf)[0] % parts):
                raise ValueError(
                    f"{what}={parts} does not divide the batch: {name!r} has shape {jnp.shape(leaf)}; choose a divisor "
                    "of the batch size"
                )
    remedy = "it takes (params, batch, key) and returns (scalar, metrics)"
    found = checks.traced("loss(params, batch, key)", remedy, loss, state.params, batch, state.key)
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], dict):
        raise ValueError(f"loss must return (scalar, metrics as a dict), got {_kind(found)}")
    value = found[0]
    if getattr(value, "shape", None) != () or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"loss must return a scalar first, got {_kind(value)}; take the mean over the batch")


def _kind(value: Any) -> str:
    return f"{value.dtype} of shape {value.shape}" if isinstance(value, jax.ShapeDtypeStruct) else type(value).__name__
