"""Gaussian priors of a model's samples: a first trajectory and first slopes, before the network is called."""

from pcm_jax.priors.fit import fit_prior
from pcm_jax.priors.gaussian import GaussianPrior
from pcm_jax.priors.guess import parallel_trajectory, trajectory
from pcm_jax.priors.slopes import slope
from pcm_jax.priors.start import start
from pcm_jax.priors.validate import check

__all__ = ["GaussianPrior", "check", "fit_prior", "parallel_trajectory", "slope", "start", "trajectory"]
