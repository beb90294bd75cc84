"""Empirical order of convergence, on a Gaussian with a closed form and on a skewed mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from tests import problems

# EDM's process has a continuous time, so grids can be as fine as they like. sigma_min is small enough that the last
# step, which every method takes with first order, does not show.
SCHEDULE = pcm.schedules.EDM(sigma_min=1e-3, sigma_max=20.0)
ORDERS = {"ddim": 1, "euler": 1, "dpm_solver_pp": 2, "heun": 2}


def run(name, steps, model, noise, sampler):
    # Uniform in ln sigma, the variable in which DPM-Solver++ expands.
    times = list(np.linspace(np.log(SCHEDULE.sigma_max), np.log(SCHEDULE.sigma_min), steps) / 4)
    solver = pcm.solvers.by_name(name, SCHEDULE, steps, prediction="data", spacing=times)
    return np.asarray(sampler(model, None, noise, solver).sample)


def picard(*args):
    return pcm.sample_picard(*args, tol=1e-9)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize(
    ("target", "sampler"),
    [("gaussian", pcm.sample_sequential), ("skewed", pcm.sample_sequential), ("gaussian", picard)],
    ids=["gaussian", "skewed", "gaussian-picard"],
)
def test_order(name, target, sampler):
    noise = SCHEDULE.sigma_max * jax.random.normal(jax.random.key(1), (8, 3), jnp.float64)
    if target == "gaussian":
        model = problems.gaussian(SCHEDULE)
        times = np.array([np.log(SCHEDULE.sigma_max) / 4])
        truth = problems.gaussian_flow(SCHEDULE, np.asarray(noise), times=times)
    else:
        model = problems.skewed(SCHEDULE)
        truth = run("heun", 1600, model, noise, pcm.sample_sequential)
    steps = np.array([40, 80, 160])
    errors = [np.sqrt(np.mean((run(name, n, model, noise, sampler) - truth) ** 2)) for n in steps]
    slopes = -np.diff(np.log(errors)) / np.diff(np.log(steps))
    order = ORDERS[name]
    assert order - 0.25 < slopes[-1] < order + 0.5, (errors, slopes)


def test_the_samples_of_a_gaussian_have_its_moments():
    """An error of sign or scale anywhere would show in the law of many samples, not only in one path."""
    noise = jax.random.normal(jax.random.key(3), (4096, 3), jnp.float64)
    for name in ("ddim", "ddpm"):
        solver = pcm.solvers.by_name(name, problems.VP, 200, prediction="data")
        out = pcm.sample_sequential(problems.gaussian(problems.VP), None, noise, solver, key=jax.random.key(4)).sample
        np.testing.assert_allclose(np.mean(out, 0), [1.0, -0.5, 2.0], atol=0.06)
        np.testing.assert_allclose(np.std(out, 0), 0.7, atol=0.04)


def test_the_samples_of_a_skewed_mixture_have_its_skew():
    noise = jax.random.normal(jax.random.key(3), (4096, 3), jnp.float64)
    solver = pcm.solvers.ddim(problems.VP, 200, prediction="data")
    out = np.asarray(pcm.sample_sequential(problems.skewed(problems.VP), None, noise, solver).sample)
    weights, means = np.array([0.8, 0.15, 0.05]), np.array([(-1.0, 0.0, 0.5), (2.0, 1.0, -1.0), (0.5, -3.0, 2.0)])
    scales = np.array([0.3, 0.5, 0.2])
    mean = weights @ means
    third = weights @ ((means - mean) ** 3 + 3 * (means - mean) * scales[:, None] ** 2)
    np.testing.assert_allclose(out.mean(0), mean, atol=0.1)
    np.testing.assert_allclose(((out - out.mean(0)) ** 3).mean(0), third, atol=0.25)
