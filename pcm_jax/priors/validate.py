"""What a prior has to fit, found before anything is traced. Each message names the remedy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax.priors.gaussian import GaussianPrior, dimensions, is_concrete, per_sample
from pcm_jax.solvers import Solver
from pcm_jax.types import is_shared


def check(prior: Any, solver: Solver, noise: Any, cond: Any) -> None:
    """Raise a ValueError unless `prior` can guess this call's trajectory."""
    if not isinstance(prior, GaussianPrior):
        raise ValueError(
            f"prior must be a GaussianPrior, got {type(prior).__name__}; make one with pcm_jax.priors.fit_prior, or "
            "load one with pcm_jax.pretrained.load_prior"
        )
    if solver.alpha is None or solver.sigma is None:
        raise ValueError(
            f"{solver.name} has no columns alpha and sigma, which a prior needs; fill them with the marginals of each "
            "row's state, or leave prior= out"
        )
    shape = tuple(jnp.shape(noise))
    if shape[1:] != prior.sample_shape:
        raise ValueError(
            f"the prior is of samples {prior.sample_shape}, noise has {shape[1:]}; fit a prior of this model's own "
            "samples"
        )
    if prior.kind == "sample" and len(prior.mean) != shape[0]:
        raise ValueError(f"the prior is about {len(prior.mean)} samples, noise has {shape[0]}; give a mean for each")
    if cond is None or prior.kind in ("pooled", "sample"):
        return
    if is_shared(cond):
        if any(jnp.shape(leaf)[:1] != (1,) for leaf in jax.tree.leaves(cond)):
            raise ValueError(
                "a prior repeats Shared conditioning for every sample, so it needs a leading axis of 1: pass "
                "Shared(value[None]), or prior.pooled()"
            )
        cond = per_sample(cond, shape[0])
    if not hasattr(cond, "shape") or not hasattr(cond, "dtype"):
        raise ValueError(
            f"the prior was fitted with {prior.kind} conditioning, cond is a {type(cond).__name__}; "
            "prior.pooled() goes with any"
        )
    if prior.kind == "class":
        _check_labels(prior, cond, shape[0])
    else:
        _check_observations(prior, cond, shape[0])


def _check_labels(prior: GaussianPrior, cond: Any, batch: int) -> None:
    if cond.shape != (batch,) or not jnp.issubdtype(cond.dtype, jnp.integer):
        raise ValueError(
            f"the prior was fitted by class, so cond must be integer labels of shape {(batch,)}, got {cond.dtype} "
            f"{cond.shape}; prior.pooled() goes with any conditioning"
        )
    if is_concrete(cond):
        labels = np.asarray(cond)
        if labels.min() < 0 or labels.max() > prior.num_classes:
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(
                f"cond has the label {wrong}, the prior has the classes 0..{prior.num_classes - 1} and "
                f"{prior.num_classes} for none; fit a prior of this model, or take prior.pooled()"
            )


def _check_observations(prior: GaussianPrior, cond: Any, batch: int) -> None:
    wanted = 0 if prior.weights is None else prior.weights.shape[0]
    if cond.shape[:1] != (batch,) or dimensions(cond.shape[1:]) != wanted:
        raise ValueError(
            f"the prior was fitted with observations of {wanted} numbers for each of {batch} samples, cond has shape "
            f"{tuple(cond.shape)}; fit a prior with this model's observations, or take prior.pooled()"
        )
