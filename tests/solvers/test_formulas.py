"""Identities between solvers, and the traps of last steps, units and singular conversions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.solvers.build import to_data
from pcm_jax.solvers.grid import make_grid
from tests import problems

SCHEDULES = {
    "linear": pcm.schedules.linear_vp(),
    "scaled": pcm.schedules.scaled_linear_vp(),
    "cosine": pcm.schedules.cosine_vp(),
    "flow": pcm.schedules.rectified_flow(),
    "edm": pcm.schedules.edm(),
}


def columns_equal(one, two, **tolerance):
    for column in ("time", "input_scale", "data_x", "data_p", "a", "b", "c"):
        np.testing.assert_allclose(getattr(one, column), getattr(two, column), err_msg=column, **tolerance)


@pytest.mark.fast
def test_ddim_with_eta_one_is_ddpm():
    columns_equal(pcm.solvers.ddim(problems.VP, 20, eta=1.0), pcm.solvers.ddpm(problems.VP, 20), rtol=1e-12)


@pytest.mark.parametrize("prediction", ["velocity", "data", "v"])
def test_euler_on_rectified_flow_is_ddim(prediction):
    options = {"prediction": prediction, "clip": 2.0}
    columns_equal(
        pcm.solvers.euler(problems.FLOW, 20, **options),
        pcm.solvers.ddim(problems.FLOW, 20, **options),
        rtol=1e-10,
        atol=1e-12,
    )


def test_euler_on_velocity_is_the_textbook_step():
    table = pcm.solvers.euler(problems.FLOW, 4)
    np.testing.assert_allclose(table.a, 1.0, rtol=1e-12)
    np.testing.assert_allclose(table.b, -0.25, rtol=1e-12)


def test_first_order_dpm_solver_is_ddim():
    """With two steps 2M has no second-order step left (the first and the last are first order)."""
    grid = problems.VP.times(3, "leading")[:2]
    columns_equal(
        pcm.solvers.dpm_solver_pp(problems.VP, 2, clip=1.0),
        pcm.solvers.ddim(problems.VP, 2, spacing=list(grid), clip=1.0),
        rtol=1e-10,
    )


DATA, EPS = np.array([[0.3, -1.2, 2.0]]), np.array([[0.5, 1.0, -0.7]])


def oracle(prediction, schedule, alpha, sigma):
    """The network output for x = alpha DATA + sigma EPS."""
    std = schedule.sigma_data
    skip, out = std**2 / (sigma**2 + std**2), sigma * std / np.sqrt(sigma**2 + std**2)
    return {
        "data": DATA,
        "epsilon": EPS,
        "v": alpha * EPS - sigma * DATA,
        "velocity": EPS - DATA,
        "edm": (DATA - skip * (alpha * DATA + sigma * EPS)) / out,
    }[prediction] + 0 * alpha


def look_up(table, x, t, cond):
    """A network that is a table of outputs by time."""
    time, outputs = table
    return outputs[jnp.argmin(jnp.abs(t[:, None] - time[None]), axis=1)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_perfect_prediction_of_one_point_lands_on_it(name):
    """Every solver ends on the data that every prediction type points at (trap 1: the final alpha, sigma)."""
    schedule = SCHEDULES[name]
    types = ["data", "v", "velocity"] + (["epsilon"] if name != "flow" else []) + (["edm"] if name == "edm" else [])
    for prediction in types:
        for build in (pcm.solvers.ddim, pcm.solvers.dpm_solver_pp, pcm.solvers.heun):
            solver = build(schedule, 6, prediction=prediction)
            alpha, sigma = schedule.marginals(np.asarray(solver.time))
            outputs = jnp.asarray(oracle(prediction, schedule, alpha[:, None], sigma[:, None]), jnp.float32)
            table = (jnp.asarray(solver.time, jnp.float32), outputs)
            out = pcm.sample_sequential(
                look_up, table, jnp.asarray(alpha[0] * DATA + sigma[0] * EPS, jnp.float32), solver
            ).sample
            final_alpha, final_sigma = schedule.final
            np.testing.assert_allclose(out, final_alpha * DATA + final_sigma * EPS, atol=5e-4, err_msg=prediction)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("prediction", ["epsilon", "data", "v", "velocity", "edm"])
def test_predictions_convert_to_data(name, prediction):
    grid = make_grid(SCHEDULES[name], 7, None)
    if prediction == "epsilon" and name == "flow":
        with pytest.raises(ValueError, match="alpha = 0"):
            to_data(prediction, grid)
        return
    u, w, m = to_data(prediction, grid)
    alpha, sigma = grid.alpha[:-1, None], grid.sigma[:-1, None]
    network = oracle(prediction, grid.schedule, alpha, sigma)
    found = u[:, None] * (alpha * DATA + sigma * EPS) + w[:, None] * network
    np.testing.assert_allclose(found, np.broadcast_to(DATA, found.shape), rtol=1e-9)
    std = grid.schedule.sigma_data
    np.testing.assert_allclose(m, 1 / np.sqrt(grid.sigma[:-1] ** 2 + std**2) if prediction == "edm" else 1.0)


def test_folding_does_not_change_the_map():
    """A one-step method without a clip is folded into the network's prediction; a clip that never binds undoes it."""
    for prediction in ("epsilon", "v", "data"):
        folded = pcm.solvers.ddim(problems.VP, 10, prediction=prediction)
        plain = pcm.solvers.ddim(problems.VP, 10, prediction=prediction, clip=1e9)
        assert np.all(folded.data_p == 1) and np.all(folded.data_x == 0)
        args = (problems.mlp, problems.mlp_params(), problems.noise())
        one, two = (pcm.sample_sequential(*args, table).sample for table in (folded, plain))
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
@pytest.mark.parametrize("name", ["linear", "scaled", "cosine"])
def test_ddpm_adds_no_noise_at_the_last_step(name, variance):
    table = pcm.solvers.ddpm(SCHEDULES[name], 20, variance=variance)
    assert table.c[-1] == 0 and np.all(table.c[:-1] > 0)


def test_ddpm_keeps_the_forward_marginals():
    """One step of a perfect denoiser of N(0, 1) keeps unit variance: a^2 Var x + 2 a b Cov + .. + c^2 = 1."""
    table = pcm.solvers.ddpm(problems.VP, 1000, prediction="data", clip=1e9)
    alpha, _ = problems.VP.marginals(np.asarray(table.time))
    # For data N(0, 1): x_t ~ N(0, 1), E[x_0 | x] = alpha x, Var = sigma^2; fixed_large is exact for this data.
    large = pcm.solvers.ddpm(problems.VP, 1000, prediction="data", clip=1e9, variance="fixed_large")
    total = (large.a + large.b * alpha) ** 2 + large.c**2
    np.testing.assert_allclose(total[:-1], 1.0, atol=1e-3)
    small = (table.a + table.b * alpha) ** 2 + table.c**2
    assert np.all(small[:-1] <= total[:-1] + 1e-12)


@pytest.mark.parametrize("name", problems.SOLVERS)
def test_the_unit_of_tolerances_is_positive_everywhere(name):
    """Trap 3: a zero variance at the last step would divide by zero and never accept a state."""
    table = problems.SOLVERS[name]()
    assert np.all(np.isfinite(table.variance)) and np.all(table.variance > 0)


def test_the_unit_is_what_ddpm_injects():
    table = pcm.solvers.ddpm(problems.VP, 30)
    np.testing.assert_allclose(table.variance[:-1], table.c[:-1] ** 2)
    np.testing.assert_allclose(pcm.solvers.ddim(problems.VP, 30).variance, table.variance)


def test_heun_has_one_row_for_each_call_and_ends_with_euler():
    table = pcm.solvers.heun(problems.EDM, 9, prediction="edm")
    assert len(table) == 17
    assert table.lags == (1,)
    assert np.all(table.history[0][0::2] == 0) and np.all(table.history[0][1::2] != 0)


def test_a_table_is_a_pytree_of_columns():
    table = pcm.solvers.ddim(problems.VP, 5)
    doubled = jax.tree.map(lambda column: 2 * column, table)
    assert len(jax.tree.leaves(table)) == 13 and doubled.name == table.name
    rows = table.rows(jnp.array([[0, 1], [4, 4]]))
    assert rows.a.shape == (2, 2)
    assert {field.name for field in dataclasses.fields(table)} >= {"clip", "lags", "stochastic"}


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [1, 3, 7, 50, 999, 1000])
def test_grids_decrease_within_the_training_range(spacing, steps):
    times = problems.VP.times(steps, spacing)
    assert times.shape == (steps,)
    assert np.all(np.diff(times) < 0) and times[0] <= 999 and times[-1] >= 0
    assert np.all(times == np.round(times))


def test_one_step_solvers_work():
    for build in (pcm.solvers.ddim, pcm.solvers.ddpm, pcm.solvers.heun, pcm.solvers.dpm_solver_pp):
        solver = build(problems.VP, 1, spacing="trailing")
        args = (problems.mlp, problems.mlp_params(), problems.noise(), solver)
        key = jax.random.key(0)
        one, two = pcm.sample_sequential(*args, key=key), pcm.sample_picard(*args, key=key)
        np.testing.assert_allclose(one.sample, two.sample, rtol=1e-5)
