"""What stored trajectories were made with: written beside them, checked before anything is trained on them."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from pcm_jax.recurrence.linearization import zero
from pcm_jax.training.rounds import Base, advance, begin
from pcm_jax.trees import fingerprint
from pcm_jax.types import Array, ModelFn

TOLERANCE = 0.05
"""Of `defect`. Digits model: 0.013 with parameters, inputs and outputs rounded to bfloat16, as other devices may do
inside; 0.065 and 0.15 for a guidance scale of 1.2 and 1.5 instead of 1."""


def about(base: Base, shape: Sequence[int]) -> dict[str, Any]:
    """What a trajectory depends on beside its noise."""
    solver = base.solver
    return {
        "solver": f"{solver.name}, {len(solver)} steps, clip {solver.clip}, table {fingerprint(solver)}",
        "parameters": fingerprint(base.params),
        "sample_shape": list(shape),
        "prior": None if base.prior is None else fingerprint(base.prior),
    }


def versions() -> dict[str, str]:
    """Of what computes and writes."""
    names = ("jax", "jaxlib", "numpy", "tensorflow-datasets", "array-record")
    return {name: importlib.metadata.version(name) for name in names}


def check_about(where: str | Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise a ValueError for the first entry of `wanted` that the set at `where` does not have."""
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ValueError(
                f"{where} was collected with another {name.replace('_', ' ')}: {found.get(name)!r}, and this is "
                f"{value!r}. Collect it again in another folder"
            )


def check_model(where: str | Path, model_fn: ModelFn, base: Base, batch: Mapping[str, Any]) -> None:
    """Raise a ValueError if `model_fn` does not make the steps of the batch's trajectories; T evaluations for each.

    Equal parameters do not make an equal model: guidance and the network's own code are in the function.
    """
    found = float(defect(model_fn, base, {name: batch.get(name) for name in ("exact", "cond", "step_noise")}))
    if not found <= TOLERANCE:
        raise ValueError(
            f"{where} was collected with another model function: its steps and this model's differ by {found:.3g} of "
            f"their length, more than {TOLERANCE:g}, though the parameters are the same. Pass the model_fn (guidance "
            "and all) that it was collected with, or collect it again in another folder"
        )


@functools.partial(jax.jit, static_argnums=0)
def defect(model_fn: ModelFn, base: Base, batch: Mapping[str, Any]) -> Array:
    """RMS of F_i(x_i) - x_{i+1} by RMS of x_{i+1} - x_i along exact trajectories: 0 for the model that made them."""
    exact = jnp.moveaxis(jnp.asarray(batch["exact"]), 0, 1)
    z = None if batch["step_noise"] is None else jnp.moveaxis(jnp.asarray(batch["step_noise"]), 0, 1)
    at = begin(model_fn, base, exact[0], batch["cond"], z)._replace(x=exact)
    y = advance(model_fn, base, None, at, batch["cond"], z, jnp.zeros(len(base.solver)), zero()).x
    drift = jnp.mean(jnp.square(exact[1:] - exact[:-1]))
    return jnp.sqrt(jnp.mean(jnp.square(y[1:] - exact[1:])) / jnp.maximum(drift, 1e-30))
