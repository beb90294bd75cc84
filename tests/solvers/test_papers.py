"""Tables against the loops of their papers (loops.py), in float64 on a nonlinear network without meaning."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.solvers import Grid
from tests import problems
from tests.solvers import loops

RNG = np.random.default_rng(3)
START, DRAWS = RNG.standard_normal((2, 5)), RNG.standard_normal((64, 2, 5))
STEPS = 9


def eps(x, t, xp=np):
    return 0.4 * x + 0.3 * xp.sin(2 * x + t / 300) + 0.1


def seen(t):
    """The time as the network gets it."""
    return float(np.float32(t))


def network(params, x, t, cond):
    return eps(x, t[:, None].astype(x.dtype), jnp)


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def sample(solver, noise=START, draws=None):
    step_noise = None if draws is None else jnp.asarray(draws)
    return np.asarray(pcm.sample_sequential(network, None, jnp.asarray(noise), solver, step_noise=step_noise).sample)


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * max(1.0, float(np.max(np.abs(expected)))))


def grid_of(steps=STEPS, last=0.0):
    """(grid, eps by row), of the linear VP schedule, in whole times; ends at sigma / alpha = `last`."""
    time = problems.VP.times(steps, "trailing")
    alpha, sigma = problems.VP.marginals(time)
    end = 1 / np.sqrt(1 + last**2)
    grid = Grid(problems.VP, time, np.append(alpha, end), np.append(sigma, last * end))
    return grid, lambda x, row: eps(x, seen(time[row]))


@pytest.mark.parametrize("sde", [False, True], ids=["ode", "sde"])
@pytest.mark.parametrize(
    ("order", "kind", "integrates", "lower"),
    [
        (1, "midpoint", "data", False),
        (2, "midpoint", "data", True),
        (2, "heun", "data", False),
        (3, "midpoint", "data", True),
        (3, "heun", "data", False),
        (1, "midpoint", "noise", False),
        (2, "midpoint", "noise", False),
        (2, "heun", "noise", True),
        (3, "heun", "noise", False),
    ],
)
def test_dpm_solver(order, kind, integrates, lower, sde):
    data = integrates == "data"
    grid, said = grid_of(last=0.0 if data else 0.02)
    options = {"order": order, "kind": kind, "integrates": integrates, "sde": sde, "lower_order_final": lower}
    table = pcm.solvers.dpm_solver_pp(problems.VP, STEPS, spacing=grid, **options)
    draws = DRAWS[:STEPS]
    expected = loops.dpm_solver(
        grid.alpha, grid.sigma, said, START, order=order, kind=kind, data=data, sde=sde, z=draws, lower=lower
    )
    same(sample(table, draws=draws if sde else None), expected)


@pytest.mark.parametrize("integrates", ["data", "noise"])
@pytest.mark.parametrize("kind", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc(order, kind, integrates):
    grid, said = grid_of(last=0.02)
    for lower in (True, False):
        table = pcm.solvers.unipc(
            problems.VP, STEPS, order=order, kind=kind, integrates=integrates, spacing=grid, lower_order_final=lower
        )
        assert len(table) == STEPS and table.depth == order
        data = integrates == "data"
        same(
            sample(table),
            loops.unipc(grid.alpha, grid.sigma, said, START, order=order, kind=kind, data=data, lower=lower),
        )


def test_unipc_without_its_corrector_of_order_two_is_dpm_solver():
    grid, _ = grid_of()
    table = pcm.solvers.unipc(problems.VP, STEPS, order=2, spacing=grid, uncorrected=range(STEPS))
    other = pcm.solvers.dpm_solver_pp(problems.VP, STEPS, spacing=grid)
    same(sample(table), sample(other))


@pytest.mark.parametrize(("method", "order"), [("lms", 1), ("lms", 2), ("lms", 4), ("deis", 2), ("deis", 3)])
def test_adams(method, order):
    grid, said = grid_of(last=0.02)
    own = {"lower_order_final": False} if method == "deis" else {}
    table = getattr(pcm.solvers, method)(problems.VP, STEPS, order=order, spacing=grid, **own)
    same(sample(table), loops.adams(grid.alpha, grid.sigma, said, START, order=order, logarithm=method == "deis"))


@pytest.mark.parametrize("prk", [False, True])
def test_pndm(prk):
    table = pcm.solvers.pndm(problems.VP, STEPS, skip_prk_steps=not prk, spacing="trailing")
    assert len(table) == (STEPS + 9 if prk else STEPS + 1)

    def level(t):
        return problems.VP.final if t is None else tuple(float(v) for v in problems.VP.marginals(np.asarray(t)))

    times = [*problems.VP.times(STEPS, "trailing"), None]
    same(sample(table), loops.pndm(level, times, lambda x, t: eps(x, seen(t)), START, prk=prk))


@pytest.mark.parametrize("prediction", ["v", "data"])
def test_pndm_averages_outputs_of_any_kind(prediction):
    """On one time's marginals the average of v is not that of eps: they are converted after it, as diffusers does."""
    table = pcm.solvers.pndm(problems.VP, STEPS, prediction=prediction, spacing="trailing")
    assert np.all(np.asarray(table.data_x) == 0) or np.max(np.abs(table.data_x)) < 1e-12
    np.testing.assert_allclose(table.data_p, 1.0)


@pytest.mark.parametrize("ancestral", [False, True])
def test_dpm2(ancestral):
    schedule = pcm.schedules.EDM(sigma_min=0.05, sigma_max=20.0)
    table = pcm.solvers.dpm2(schedule, STEPS, prediction="data", ancestral=ancestral)
    assert len(table) == 2 * STEPS - 1
    draws = DRAWS[: len(table)]
    s = np.append(np.exp(4 * schedule.times(STEPS, "karras")), 0.0)
    denoise = lambda y, level: eps(y, seen(np.log(level) / 4))  # noqa: E731
    expected = loops.dpm2(s, denoise, 20.0 * START, z=draws[1::2] if ancestral else None)
    same(sample(table, 20.0 * START, draws if ancestral else None), expected)


@pytest.mark.parametrize("order", [1, 2])
def test_edm_stochastic(order):
    schedule = pcm.schedules.EDM(sigma_min=0.05, sigma_max=20.0)
    options = {"s_churn": 4.0, "s_tmin": 0.1, "s_tmax": 15.0, "s_noise": 1.01}
    table = pcm.solvers.edm_stochastic(schedule, STEPS, order=order, prediction="data", **options)
    s = np.append(np.exp(4 * schedule.times(STEPS, "karras")), 0.0)
    gamma = np.where((s[:-1] >= 0.1) & (s[:-1] <= 15.0), min(4.0 / STEPS, np.sqrt(2) - 1), 0.0)
    assert 0 < np.sum(gamma > 0) < STEPS
    compare_edm(table, s, gamma, 1.01, order == 2)


def test_alphafold3():
    """Algorithm 18 with c_0 .. c_T, gamma_0 = 0.8, gamma_min = 1, noise scale 1.003, step scale 1.5."""
    steps = 20
    table = pcm.solvers.alphafold3(steps)
    ramp = np.arange(steps + 1) / steps
    s = 16.0 * (160.0 ** (1 / 7) + ramp * (4e-4 ** (1 / 7) - 160.0 ** (1 / 7))) ** 7
    # As data predictions: the loop then needs no preconditioning, which `to_data` is tested for.
    plain = pcm.solvers.edm_stochastic(
        pcm.schedules.EDM(sigma_min=s[-1], sigma_max=s[0], sigma_data=16.0),
        steps,
        order=1,
        gamma=np.where(s[1:] > 1, 0.8, 0.0),
        s_noise=1.003,
        step_scale=1.5,
        prediction="data",
        spacing=Grid(pcm.schedules.EDM(), np.log(s[:-1]) / 4, np.ones(steps + 1), s),
    )
    for column in ("held_data", "data_gain", "c", "time"):
        np.testing.assert_allclose(getattr(table, column), getattr(plain, column), rtol=1e-12)
    np.testing.assert_allclose(table.input_scale, 1 / np.sqrt(np.asarray(table.sigma) ** 2 + 256.0))
    compare_edm(plain, s, np.where(s[1:] > 1, 0.8, 0.0), 1.003, False, 1.5)


def compare_edm(table, s, gamma, s_noise, heun, step_scale=1.0):
    """The loop's x is not yet raised, the table's state is: the sampler's noise is that of the first raised state."""
    z = DRAWS[: len(s) - 1]
    raised = np.sqrt((s[0] * (1 + gamma[0])) ** 2 - s[0] ** 2)
    first = s[0] * START + s_noise * raised * z[0]
    denoise = lambda x, level: eps(x, seen(np.log(level) / 4))  # noqa: E731
    expected = loops.edm(s, denoise, s[0] * START, z, heun=heun, gamma=gamma, s_noise=s_noise, step_scale=step_scale)
    # Where a step has two rows the second one adds the noise; a row's noise is the next step's.
    adds = np.flatnonzero(np.asarray(table.c) > 0)
    draws = np.zeros((len(table), *START.shape))
    draws[adds] = z[1:][gamma[1:] > 0]
    np.testing.assert_allclose(table.start_scale, np.sqrt(s[0] ** 2 + (s_noise * raised) ** 2))
    same(sample(table, first / table.start_scale, draws), expected)


def test_euler_ancestral():
    """k-diffusion's loop in units of alpha = 1."""
    grid, said = grid_of()
    s, y = grid.sigma / grid.alpha, START / grid.alpha[0]
    for i in range(STEPS):
        up = s[i + 1] * np.sqrt(1 - (s[i + 1] / s[i]) ** 2)
        down = np.sqrt(s[i + 1] ** 2 - up**2)
        y = y + (down - s[i]) * said(grid.alpha[i] * y, i) + up * DRAWS[i]
    same(sample(pcm.solvers.euler_ancestral(problems.VP, STEPS, spacing=grid), draws=DRAWS[:STEPS]), y)


def test_ddim_with_the_network_s_own_noise():
    """DDIM's equation 12 with the data clipped and the noise as it is."""
    grid, said = grid_of()
    x = START
    for i in range(STEPS):
        noise = said(x, i)
        data = np.clip((x - grid.sigma[i] * noise) / grid.alpha[i], -0.6, 0.6)
        x = grid.alpha[i + 1] * data + grid.sigma[i + 1] * noise
    options = {"spacing": grid, "clip": 0.6}
    table = pcm.solvers.ddim(problems.VP, STEPS, clipped_noise=False, **options)
    same(sample(table), x)
    assert np.max(np.abs(x - sample(pcm.solvers.ddim(problems.VP, STEPS, **options)))) > 1e-3
    # Without a clip there is one noise only, and no column for another.
    free = [pcm.solvers.ddim(problems.VP, STEPS, spacing=grid, clipped_noise=kind) for kind in (False, True)]
    assert free[0].raw is None
    same(sample(free[0]), sample(free[1]))


def test_stochastic_flow():
    """Every step to the data and back to new noise."""
    table = pcm.solvers.euler(problems.FLOW, STEPS, stochastic=True)
    sigma = np.append(np.asarray(table.time) / 1000, 0.0)
    x = START
    for i in range(STEPS):
        data = x - sigma[i] * eps(x, seen(table.time[i]))
        x = (1 - sigma[i + 1]) * data + sigma[i + 1] * DRAWS[i]
    same(sample(table, draws=DRAWS[:STEPS]), x)


@pytest.mark.parametrize("method", ["deis", "lms"])
def test_noise_predictions_are_remembered_clipped(method):
    """The history of a method in the noise prediction is that of clipped data: eps = (x - alpha clip(x_0)) / sigma."""
    grid, said = grid_of(last=0.02)
    table = getattr(pcm.solvers, method)(problems.VP, STEPS, order=2, clip=0.5, spacing=grid)

    def clipped(x, row):
        data = np.clip((x - grid.sigma[row] * said(x, row)) / grid.alpha[row], -0.5, 0.5)
        return (x - grid.alpha[row] * data) / grid.sigma[row]

    if method == "deis":
        table = getattr(pcm.solvers, method)(
            problems.VP, STEPS, order=2, clip=0.5, spacing=grid, lower_order_final=False
        )
    same(sample(table), loops.adams(grid.alpha, grid.sigma, clipped, START, order=2, logarithm=method == "deis"))
    # A preview shows that data.
    row = table.rows(jnp.full(2, 4))
    x = jnp.asarray(START)
    f = row.data(x, network(None, row.network_input(x), row.time, None))
    data = np.clip((START - grid.sigma[4] * said(START, 4)) / grid.alpha[4], -0.5, 0.5)
    np.testing.assert_allclose(row.data_prediction(x, f), data, atol=1e-10)


def test_a_start_scale_multiplies_the_noise():
    grid, _ = grid_of()
    scaled = pcm.solvers.ddim(problems.VP, STEPS, spacing=dataclasses.replace(grid, start_scale=0.9))
    same(sample(scaled), sample(pcm.solvers.ddim(problems.VP, STEPS, spacing=grid), 0.9 * START))
    out = pcm.sample_picard(network, None, jnp.asarray(START), scaled, tol=0.0, return_trajectory=True)
    same(np.asarray(out.trajectory[0]), 0.9 * START)
    same(np.asarray(out.sample), sample(scaled))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pcm.solvers.dpm_solver_pp(problems.VP, 9, order=4), "order must be a whole number, 1..3, got 4"),
        (lambda: pcm.solvers.dpm_solver_pp(problems.VP, 9, kind="bh2"), "unknown kind 'bh2'"),
        (lambda: pcm.solvers.dpm_solver_pp(problems.VP, 9, integrates="v"), "unknown integrates 'v'"),
        (lambda: pcm.solvers.dpm_solver_pp(problems.VP, 9, integrates="noise"), "cannot step to sigma = 0"),
        (lambda: pcm.solvers.unipc(problems.VP, 9, order=0), r"order must lie in 1\.\.6, got 0"),
        (lambda: pcm.solvers.unipc(problems.VP, 9, order="2"), r"order must lie in 1\.\.6, got '2'"),
        (lambda: pcm.solvers.pndm(problems.VP, 9, prediction="edm"), "averages epsilon, v or data predictions"),
        (lambda: pcm.solvers.pndm(problems.VP, 9.5), r"num_steps of at least 1 here, got 9\.5"),
        (lambda: pcm.solvers.unipc(problems.VP, 9, kind="midpoint"), "unknown kind 'midpoint'"),
        (lambda: pcm.solvers.unipc(problems.VP, 9, integrates="v"), "unknown integrates 'v'"),
        (lambda: pcm.solvers.lms(problems.VP, 9, order=5), "order must be 1, 2, 3 or 4, got 5"),
        (lambda: pcm.solvers.deis(problems.FLOW, 9, prediction="velocity"), "first state of this grid has alpha = 0"),
        (lambda: pcm.solvers.pndm(problems.FLOW, 9), "training indices of a VP schedule, got RectifiedFlow"),
        (lambda: pcm.solvers.pndm(problems.VP, 3, skip_prk_steps=False), "num_steps of at least 4 here, got 3"),
        (lambda: pcm.solvers.dpm2(pcm.schedules.scaled_linear_vp(), 9), "ends with Euler's step to sigma = 0"),
        (lambda: pcm.solvers.dpm2(problems.FLOW, 9, prediction="velocity"), "first state of this grid has alpha = 0"),
        (lambda: pcm.solvers.edm_stochastic(problems.VP, 9), "needs edm"),
        (lambda: pcm.solvers.edm_stochastic(problems.EDM, 9, order=3), r"order must be a whole number, 1\.\.2 .*got 3"),
        (lambda: pcm.solvers.edm_stochastic(problems.EDM, 9, step_scale=1.5), "use it with order=1"),
        (lambda: pcm.solvers.edm_stochastic(problems.EDM, 9, gamma=[0.1]), "gamma must be 9 numbers"),
        (lambda: pcm.solvers.edm_stochastic(problems.EDM, 9, s_churn=-1.0), "s_churn must be at least 0"),
        (lambda: pcm.solvers.ddim(problems.VP, 8, spacing=grid_of()[0]), "the grid has 9 steps and num_steps is 8"),
    ],
)  # fmt: skip
def test_what_a_method_cannot_do_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
