"""Laws that hold for every solver: Picard equals the sequential sampler, row by row, slope by slope."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from tests import problems

SLOPES = {
    "identity": pcm.linearization.identity(),
    "zero": pcm.linearization.zero(),
    "held_noise": pcm.linearization.held_noise(),
    "held_data": pcm.linearization.held_data(),
    "secant": pcm.linearization.secant(),
}


@pytest.fixture(scope="module", params=problems.SOLVERS)
def case(request):
    """A solver, its sequential trajectory, and a function that samples it with Picard."""
    solver = problems.SOLVERS[request.param]()
    params, noise, key = problems.mlp_params(), problems.noise(), problems.key_for(solver)
    ref = pcm.sample_sequential(problems.mlp, params, noise, solver, key=key, return_trajectory=True)
    assert bool(jnp.all(jnp.isfinite(ref.sample)))

    def picard(*, return_trajectory=True, **options):
        # One static signature for most laws: what differs in values alone is compiled once.
        options["return_trajectory"] = return_trajectory
        return pcm.sample_picard(problems.mlp, params, noise, solver, key=key, **options)

    return solver, ref, picard


def close(out, ref, scale: float = 1.0) -> None:
    size = float(jnp.max(jnp.abs(ref)))
    np.testing.assert_allclose(out, ref, rtol=0, atol=scale * 3e-6 * max(size, 1.0))


@pytest.mark.fast
def test_zero_tolerance_reproduces_the_sequential_trajectory(case):
    solver, ref, picard = case
    out = picard(tol=0.0)
    close(out.trajectory, ref.trajectory)
    close(out.sample, ref.sample)
    assert bool(jnp.all(out.converged))
    assert int(out.stats.rounds.max()) <= len(solver)
    assert float(out.error_bound.max()) == 0.0


@pytest.mark.parametrize("slope", SLOPES)
def test_every_slope_and_window_has_the_same_fixed_point(case, slope):
    _, ref, picard = case
    out = picard(tol=0.0, window=6, linearization=SLOPES[slope])
    close(out.sample, ref.sample)
    assert bool(jnp.all(out.converged))


def test_after_k_rounds_the_first_k_states_are_exact(case):
    solver, ref, picard = case
    for rounds in (1, 4):
        # A larger tolerance would accept more; with 0 the front advances by proof alone.
        out = picard(tol=0.0, max_rounds=rounds, stats="full")
        close(out.trajectory[: rounds + 1], ref.trajectory[: rounds + 1])
        assert len(solver) > 4
        assert bool(jnp.all(out.stats.accepted[rounds - 1] >= rounds))


def test_the_error_is_within_the_bound_and_the_bound_within_the_tolerance(case):
    _, ref, picard = case
    out = picard(tol=1e-2)
    assert bool(jnp.all(out.converged))
    assert 0 < float(out.error_bound.max()) <= 1e-2
    tighter = picard(tol=1e-4)
    error = lambda o: jnp.sqrt(jnp.mean((o.sample - ref.sample) ** 2, axis=tuple(range(1, ref.sample.ndim))))  # noqa: E731
    for found in (out, tighter):
        assert bool(jnp.all(error(found) <= found.error_bound + 3e-6 * max(1.0, float(jnp.max(jnp.abs(ref.sample))))))
    assert float(error(tighter).max()) <= float(error(out).max())
    assert int(tighter.stats.rounds.max()) >= int(out.stats.rounds.max())


def test_window_of_one_is_the_sequential_sampler(case):
    solver, ref, picard = case
    out = picard(window=1, tol=0.0)
    close(out.sample, ref.sample)
    assert out.stats.rounds.tolist() == [len(solver)] * 4
    assert out.stats.evaluations.tolist() == [len(solver)] * 4
    assert int(out.stats.padded_evaluations) == 0


def test_started_on_the_solution_one_round_certifies_it(case):
    _, ref, picard = case
    out = picard(init=ref.trajectory, tol=1e-3)
    assert int(out.stats.rounds.max()) == 1
    close(out.sample, ref.sample)


def test_the_guess_changes_the_rounds_and_not_the_sample(case):
    _, ref, picard = case
    wrong = ref.trajectory + jax.random.normal(jax.random.key(0), ref.trajectory.shape)
    for window in (None, 6):
        close(picard(init=wrong, tol=0.0, window=window).sample, ref.sample)


def test_samples_of_a_batch_do_not_see_each_other(case):
    solver, _, picard = case
    whole = picard(tol=1e-2, window=6)
    params, noise, key = problems.mlp_params(), problems.noise(), problems.key_for(solver)
    part = pcm.sample_picard(
        problems.mlp, params, noise[:2], solver, key=key, tol=1e-2, window=6, return_trajectory=True
    )
    np.testing.assert_allclose(part.sample, whole.sample[:2], rtol=2e-5, atol=2e-5)
    assert part.stats.rounds.tolist() == whole.stats.rounds[:2].tolist()
    assert part.stats.evaluations.tolist() == whole.stats.evaluations[:2].tolist()


def test_counts_add_up(case):
    solver, _, picard = case
    for window in (6, None):
        out = picard(window=window, tol=1e-2, stats="full")
        lanes = int(out.stats.rounds.max()) * (window or len(solver)) * 4
        assert int(out.stats.evaluations.sum() + out.stats.padded_evaluations) == lanes
        for sample in range(4):
            rounds = int(out.stats.rounds[sample])
            front = np.array(out.stats.accepted[:rounds, sample])
            assert front[-1] == len(solver) and np.all(np.diff(front) >= 1)
            assert np.all(np.array(out.stats.accepted[rounds:, sample]) == -1)
            assert np.all(np.array(out.stats.bounds[:rounds, sample]) >= 0)
            assert np.all(np.array(out.stats.bounds[rounds:, sample]) == -1)
            starts = np.concatenate([[0], front[:-1]])
            assert int(out.stats.evaluations[sample]) == np.minimum(window or len(solver), len(solver) - starts).sum()
