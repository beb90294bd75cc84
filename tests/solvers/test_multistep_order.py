"""Empirical order of the multistep methods, and moments of the stochastic ones; the older ones' is in test_order.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.solvers import Grid
from tests import problems

SCHEDULE = pcm.schedules.EDM(sigma_min=0.05, sigma_max=20.0)
LAST = SCHEDULE.sigma_min
MODEL = problems.gaussian(SCHEDULE)

ORDERS = {
    # The authors' 3M weighs the second difference by half of what the integral does: it converges like 2M.
    "dpm_solver_pp": {"1": (1, {}), "2": (2, {}), "2-heun": (2, {"kind": "heun"}), "3": (2, {}), "3-noise": (2, {})},
    # UniPC-p is of order p + 1, as its paper says.
    "unipc": {"1": (2, {}), "2": (3, {}), "2-bh1": (3, {"kind": "bh1"}), "3": (4, {}), "3-noise": (4, {})},
    "lms": {"1": (1, {}), "2": (2, {}), "3": (3, {}), "4": (4, {})},
    "deis": {"1": (1, {}), "2": (2, {}), "3": (3, {})},
    "edm_stochastic": {"1": (1, {}), "2": (2, {})},
}
CASES = [(method, case) for method, cases in ORDERS.items() for case in cases]


def error(method, case, steps):
    """RMS distance from where the probability-flow ODE of a Gaussian ends, at sigma = LAST.

    Uniform in ln sigma, and the last state is noisy: a step to sigma = 0 is of first order for every method.
    """
    sigma = np.exp(np.linspace(np.log(SCHEDULE.sigma_max), np.log(LAST), steps + 1))
    grid = Grid(SCHEDULE, np.log(sigma[:-1]) / 4, np.ones(steps + 1), sigma)
    order, *kind = case.split("-")
    own = dict(ORDERS[method][case][1])
    own |= {"integrates": "noise"} if kind == ["noise"] else {}
    own |= {"lower_order_final": False} if method in ("dpm_solver_pp", "unipc", "deis") else {}
    build = getattr(pcm.solvers, method)
    solver = build(SCHEDULE, steps, order=int(order), prediction="data", spacing=grid, **own)
    noise = jax.random.normal(jax.random.key(1), (8, 3), jnp.float64)
    first = SCHEDULE.sigma_max * noise / solver.start_scale
    out = np.asarray(pcm.sample_sequential(MODEL, None, first, solver).sample)
    mean, scale = np.array([1.0, -0.5, 2.0]), 0.7
    spread = np.sqrt((scale**2 + LAST**2) / (scale**2 + SCHEDULE.sigma_max**2))
    truth = mean + spread * (SCHEDULE.sigma_max * np.asarray(noise) - mean)
    return np.sqrt(np.mean((out - truth) ** 2))


@pytest.mark.parametrize(("method", "case"), CASES)
def test_order(method, case):
    with jax.enable_x64(True):
        errors = [error(method, case, steps) for steps in (40, 80)]
    order = ORDERS[method][case][0]
    assert order - 0.5 < np.log2(errors[0] / errors[1]) < order + 0.4, errors


def test_three_m_is_more_exact_than_two_m():
    with jax.enable_x64(True):
        two, three = (error("dpm_solver_pp", case, 80) for case in ("2", "3"))
    assert three < 0.5 * two


STOCHASTIC = {
    "2m-sde": lambda: pcm.solvers.dpm_solver_pp(problems.VP, 60, sde=True, prediction="data"),
    "1-sde": lambda: pcm.solvers.dpm_solver_pp(problems.VP, 100, order=1, sde=True, prediction="data"),
    "dpm2-ancestral": lambda: pcm.solvers.dpm2(problems.VP, 60, ancestral=True, prediction="data"),
    "edm": lambda: pcm.solvers.edm_stochastic(SCHEDULE, 60, s_churn=20.0, prediction="data"),
    "edm-euler": lambda: pcm.solvers.edm_stochastic(SCHEDULE, 150, order=1, s_churn=20.0, prediction="data"),
}


@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_samples_of_a_gaussian_have_its_moments(name):
    """An error of sign or scale in the noise would show in the law of many samples."""
    solver = STOCHASTIC[name]()
    noise = jax.random.normal(jax.random.key(3), (4096, 3))
    model = problems.gaussian(problems.VP if "sde" in name or "dpm2" in name else SCHEDULE)
    out = pcm.sample_sequential(model, None, noise, solver, key=jax.random.key(4)).sample
    np.testing.assert_allclose(np.mean(out, 0), [1.0, -0.5, 2.0], atol=0.06)
    np.testing.assert_allclose(np.std(out, 0), 0.7, atol=0.04)
