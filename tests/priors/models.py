"""Gaussian models whose prior is known, and the network that is exactly its posterior mean."""

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from pcm_jax.priors import GaussianPrior
from pcm_jax.training.denoising import target
from tests import problems

DIM = 6
CLASSES = 2


def prior(kind: str = "class", rank: int = 4, shared: bool = False, shape=(2, 3)) -> GaussianPrior:
    """Anything: two classes, or two observations; skewed means and variances of very different size."""
    rng = np.random.default_rng(3)
    size = {"class": CLASSES + 1, "observation": 2, "pooled": 1}[kind]
    basis = np.stack([np.linalg.qr(rng.standard_normal((DIM, DIM)))[0][:, :rank] for _ in range(1 if shared else size)])
    arrays = (
        rng.uniform(-0.8, 0.6, (size, *shape)),
        basis,
        rng.uniform(0.01, 1.5, (size, rank)),
        rng.uniform(0.02, 0.1, size),
    )
    weights = rng.standard_normal((3, DIM)) / 4 if kind == "observation" else None
    arrays = [jnp.asarray(array, jnp.float32) for array in arrays]
    return GaussianPrior(*arrays, None if weights is None else jnp.asarray(weights, jnp.float32), kind)


def conditioning(kind: str, batch: int):
    if kind == "class":
        return jnp.arange(batch) % (CLASSES + 1)
    return jax.random.normal(jax.random.key(8), (batch, 3)) if kind == "observation" else None


def dense(given: GaussianPrior, cond, batch: int):
    """Mean `[B, D]` and covariance `[B, D, D]`, written out."""
    if given.kind == "class" and cond is not None:
        which = np.asarray(cond)
    elif given.kind == "observation" and cond is not None:
        which = np.zeros(batch, int)
    else:
        which = np.full(batch, -1)
    basis = np.broadcast_to(given.basis, (len(given.mean), *given.basis.shape[1:]))[which].astype(np.float64)
    mean = np.asarray(given.mean, np.float64).reshape(len(given.mean), -1)[which]
    if given.weights is not None and cond is not None:
        mean = mean + np.asarray(cond, np.float64) @ np.asarray(given.weights, np.float64)
    rest = np.asarray(given.remainder, np.float64)[which][:, None, None]
    lower = np.asarray(given.variances, np.float64)[which][:, None, :] - rest
    eye = np.eye(mean.shape[1])[None]
    return mean, (basis * lower) @ basis.transpose(0, 2, 1) + rest * eye


def posterior(name: str):
    """A network for problems.SOLVERS[name]: params are (mean, covariance), every call solves a dense system."""
    schedule = problems._SCHEDULE.get(name, problems.VP)
    prediction = problems._PREDICTION.get(name, "epsilon")

    def model(params, x, t, cond):
        mean, covariance = params
        shape, x = x.shape, x.reshape(len(x), -1)
        alpha, sigma = (jnp.asarray(value)[:, None] for value in schedule.marginals(t))
        if prediction == "edm":  # the network sees c_in x
            x = x * jnp.sqrt(sigma**2 + schedule.sigma_data**2)
        spread = alpha[:, :, None] ** 2 * covariance + sigma[:, :, None] ** 2 * jnp.eye(DIM)[None]
        solved = jnp.linalg.solve(spread, (x - alpha * mean)[..., None])
        data = mean + alpha * (covariance @ solved)[..., 0]
        eps = (x - alpha * data) / sigma
        return target(prediction, schedule, data, eps, alpha, sigma).reshape(shape)

    return model


def noise_for(name: str, batch: int = 4, shape=(2, 3)):
    # In the solver's own range: EDM begins at sigma = 80.
    return jax.random.normal(jax.random.key(1), (batch, *shape)) * (80.0 if name == "heun-edm" else 1.0)


def step_noise_for(solver, noise):
    if not solver.stochastic:
        return None
    return pcm.sampling.network.draw_step_noise(jax.random.key(2), len(solver), noise.shape, noise.dtype)
