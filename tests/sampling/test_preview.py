"""What a run that ends early shows: the data prediction of the row that was asked for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.training import Base, measure_preview, previews, solve_batch
from tests import problems

DATA = jnp.array([[0.5, -0.3, 0.9, 0.0], [-0.8, 0.2, 0.1, 0.6]])


@pytest.mark.parametrize("name", problems.SOLVERS)
def test_it_is_what_the_network_says_of_the_data(name):
    """In every row, whatever the network predicts and however the table holds it."""
    solver = problems.SOLVERS[name]()
    model = problems.knowing(name)

    noise = jax.random.normal(jax.random.key(0), DATA.shape) * (80.0 if name == "heun-edm" else 1.0)
    key = problems.key_for(solver)
    rows = (0, len(solver) // 2, len(solver) - 1)
    out = pcm.sample_picard(
        model, None, noise, solver, cond=DATA, key=key, tol=0.0, max_rounds=3, preview=rows, return_rounds=True
    )
    assert not out.converged.any()
    np.testing.assert_allclose(out.iterates, jnp.stack(3 * [DATA]), atol=2e-3 if name == "heun-edm" else 2e-4)


def run(rounds=None, **options):
    solver = pcm.solvers.ddim(problems.VP, 12, clip=1.0)
    return pcm.sample_picard(
        problems.mlp, problems.mlp_params(), problems.noise(), solver, tol=1e-4, max_rounds=rounds, **options
    )


def test_rows_are_taken_round_by_round_and_certified_samples_are_left_alone():
    rows = (3, 7, 12, 9)
    whole = run(preview=rows, return_rounds=True)
    plain = run(return_rounds=True)
    assert whole.converged.all()
    np.testing.assert_array_equal(whole.sample, plain.sample)
    for rounds in range(1, 7):
        alone = run(rounds, preview=rows[:rounds])
        np.testing.assert_array_equal(alone.sample, whole.iterates[rounds - 1] if rounds <= 4 else alone.sample)
    # Number 12 is the last state itself; the last row stands for all later rounds.
    np.testing.assert_array_equal(whole.iterates[2], plain.iterates[2])
    assert not np.allclose(whole.iterates[1], plain.iterates[1], atol=1e-3)
    np.testing.assert_array_equal(run(5, preview=rows).sample, run(5, preview=(*rows, 9)).sample)


@pytest.mark.parametrize("window", [3, 12])
def test_every_executor_and_window_shows_the_same(window):
    here = run(3, window=window, preview=(8,))
    for executor in (pcm.parallel.pmap(), pcm.parallel.shard_map()):
        np.testing.assert_allclose(
            run(3, window=window, preview=(8,), executor=executor).sample, here.sample, atol=1e-5
        )
    assert not here.converged.any() and np.isfinite(here.sample).all()


def test_a_row_that_is_not_finite_is_not_shown():
    def overflows(params, x, t, cond):
        return jnp.where(t[:, None] < 500, jnp.inf, problems.mlp(params, x, t, cond))

    solver = pcm.solvers.ddim(problems.VP, 12)
    arguments = (overflows, problems.mlp_params(), problems.noise(), solver)
    out = pcm.sample_picard(*arguments, tol=1e-4, max_rounds=1, preview=(11,))
    assert np.isfinite(out.sample).all()
    np.testing.assert_array_equal(out.sample, pcm.sample_picard(*arguments, tol=1e-4, max_rounds=1).sample)


@pytest.mark.fast
@pytest.mark.parametrize("preview", [(), 3, (13,), (-1,), (2.5,)])
def test_bad_rows(preview):
    with pytest.raises(ValueError, match="preview must"):
        run(2, preview=preview)


@pytest.mark.parametrize("slope", ["identity", "secant"])
def test_the_measured_rows_are_the_best_and_their_error_is_the_samplers(slope):
    solver = pcm.solvers.ddim(problems.VP, 12)
    base = Base(problems.mlp_params(), solver)
    linearization = getattr(pcm.linearization, slope)()
    batch = solve_batch(problems.mlp, base, (6,), 8, lambda key, size: None, jax.random.key(3))
    found = measure_preview(problems.mlp, base, batch, rounds=5, linearization=linearization)
    assert found.error.shape == (5, 13) and found.rows[-1] == 12 and found.evaluations == 5 * 12 * 8
    exact = np.asarray(batch["exact"])[:, -1]
    options = {"tol": 0.0, "max_rounds": 5, "linearization": linearization, "return_rounds": True}
    shown = pcm.sample_picard(
        problems.mlp, base.params, batch["exact"][:, 0], solver, preview=found.rows, **options
    ).iterates
    error = np.sqrt(np.mean((np.asarray(shown) - exact) ** 2, axis=(1, 2)))
    np.testing.assert_allclose(error, found.error.min(axis=1), rtol=1e-3, atol=1e-6)


def test_a_judge_of_ones_own_chooses_among_the_candidates():
    solver = pcm.solvers.ddim(problems.VP, 12)
    base = Base(problems.mlp_params(), solver)
    batch = solve_batch(problems.mlp, base, (6,), 8, lambda key, size: None, jax.random.key(3))
    everything = measure_preview(problems.mlp, base, batch, rounds=2)
    few = measure_preview(problems.mlp, base, batch, rounds=2, candidates=(3, 9))
    assert few.candidates == (3, 9, 12)
    np.testing.assert_array_equal(few.error, everything.error[:, [3, 9, 12]])
    worst = measure_preview(problems.mlp, base, batch, rounds=2, judge=lambda *both: -previews.rms(*both))
    np.testing.assert_array_equal(worst.error, -everything.error)
    assert worst.rows[:2] == tuple(everything.error.argmax(1))
    with pytest.raises(ValueError, match=r"candidates must be a whole number, 0\.\.11 .*got 12"):
        measure_preview(problems.mlp, base, batch, candidates=(3, 12))
