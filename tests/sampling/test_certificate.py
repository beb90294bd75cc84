"""A biased evaluation is never certified (DESIGN.md, decision 4; trap 4), and a bad network never spreads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.recurrence import LoopConfig, Start, Window, loop
from pcm_jax.sampling.call import TableCall, output
from pcm_jax.sampling.network import call_rows
from pcm_jax.sampling.table import TableSteps
from tests import problems

SOLVER = pcm.solvers.ddim(problems.VP, 12)


def run(switch, *, tol=1e-2, max_rounds=40, bias=5.0):
    """The loop with an evaluation that is off by `bias * lambda`, a stand-in for a fine-tuned model gone wrong."""
    noise, params = problems.noise(), problems.mlp_params()

    def predict(x, time, share):
        extra = 0.0 if share is None else bias * share.reshape((*share.shape, 1))
        return call_rows(problems.mlp, params, x, time, None, x.dtype) + extra

    config = LoopConfig(
        window=Window(12, 12),
        max_rounds=max_rounds,
        linearization=pcm.linearization.identity(),
        certificate=pcm.certificates.defect_sum(),
        switch=switch,
        report=True,
    )
    problem = TableSteps(SOLVER, config.window, predict, None)
    found = loop.run(problem, Start(noise, None, jnp.float32(tol)), config)
    return output(TableCall(problems.mlp, noise.dtype, config, pcm.parallel.single()), found)


@pytest.fixture(scope="module")
def reference():
    return pcm.sample_sequential(problems.mlp, problems.mlp_params(), problems.noise(), SOLVER).sample


def test_a_bias_that_never_ends_is_never_called_converged():
    out = run(lambda see: jnp.ones(see.row.shape), tol=1e6)
    assert not bool(jnp.any(out.converged))
    assert bool(jnp.all(out.stats.accepted[: int(out.stats.rounds[0])] == 0))


def test_the_sample_is_exact_once_the_bias_has_gone(reference):
    out = run(lambda see: jnp.where(see.round < 5, 1.0, 0.0) * jnp.ones(see.row.shape), tol=1e-4)
    assert bool(jnp.all(out.converged))
    assert bool(jnp.all(out.stats.accepted[:5] == 0))
    np.testing.assert_allclose(out.sample, reference, atol=1e-3)


def test_rows_behind_a_biased_row_wait(reference):
    late = run(lambda see: jnp.where((see.row >= 6) & (see.round < 9), 1.0, 0.0), tol=1e-4)
    assert bool(jnp.all(late.stats.accepted[:9] <= 6))
    assert bool(jnp.all(late.converged))
    np.testing.assert_allclose(late.sample, reference, atol=1e-3)


def test_a_switch_that_is_always_zero_changes_nothing():
    plain, switched = run(None), run(lambda see: jnp.zeros(see.row.shape))
    np.testing.assert_array_equal(plain.sample, switched.sample)
    assert plain.stats.rounds.tolist() == switched.stats.rounds.tolist()


def test_a_switch_sees_rows_and_their_age():
    seen = []

    def switch(see):
        seen.append((see.row.shape, see.age.shape, see.residual.shape, see.round.shape))
        return jnp.where(see.age < 2, 1.0, 0.0)

    out = run(switch, tol=1e-3)
    assert bool(jnp.all(out.converged))
    assert seen[0] == ((12, 4), (12, 4), (12, 4), ())
    assert bool(jnp.all(out.stats.accepted[:2] == 0))


def poisoned(params, x, t, cond):
    """NaN for samples whose label is 1, once t < 500."""
    return jnp.where(((cond == 1) & (t < 500))[:, None], jnp.nan, problems.mlp(params, x, t, None))


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize(
    "slope", [pcm.linearization.identity(), pcm.linearization.secant()], ids=["identity", "secant"]
)
def test_nan_stays_in_its_sample(reference, window, slope):
    labels = jnp.array([0, 1, 0, 1])
    out = pcm.sample_picard(
        poisoned,
        problems.mlp_params(),
        problems.noise(),
        SOLVER,
        cond=labels,
        window=window,
        tol=0.0,
        linearization=slope,
    )
    assert out.result.tolist() == [0, 2, 0, 2]
    np.testing.assert_allclose(out.sample[::2], reference[::2], atol=1e-5)
    assert bool(jnp.all(jnp.isnan(out.sample[1::2])))
    sequential = pcm.sample_sequential(poisoned, problems.mlp_params(), problems.noise(), SOLVER, cond=labels)
    assert sequential.result.tolist() == out.result.tolist()
    with pytest.raises(RuntimeError, match=r"NONFINITE for samples 1, 3: .*check the weights"):
        out.raise_for_result()


@pytest.mark.parametrize("clip", [1.0, pcm.solvers.dynamic_threshold(0.9, 1.5)], ids=["clip", "threshold"])
def test_a_clip_does_not_hide_an_inf(clip):
    def broken(params, x, t, cond):
        return jnp.where(((cond == 1) & (t < 500))[:, None], jnp.inf, problems.mlp(params, x, t, None))

    solver = pcm.solvers.ddim(problems.VP, 12, clip=clip)
    args = (broken, problems.mlp_params(), problems.noise(), solver)
    for sampler in (pcm.sample_sequential, pcm.sample_picard):
        out = sampler(*args, cond=jnp.array([0, 1, 0, 1]))
        assert out.result.tolist() == [0, 2, 0, 2]
        assert bool(jnp.all(jnp.isnan(out.sample[1])))


def test_a_network_that_overflows_on_a_guess_only_is_survived(reference):
    """Finite on the trajectory, NaN far from it: the sequential sample exists, so the parallel one must."""

    def fragile(params, x, t, cond):
        return jnp.where(jnp.max(jnp.abs(x), axis=1, keepdims=True) > 50.0, jnp.nan, problems.mlp(params, x, t, cond))

    ref = pcm.sample_sequential(fragile, problems.mlp_params(), problems.noise(), SOLVER, return_trajectory=True)
    assert bool(jnp.all(ref.converged))
    guess = ref.trajectory.at[5:9].set(1e3)
    out = pcm.sample_picard(fragile, problems.mlp_params(), problems.noise(), SOLVER, init=guess, tol=0.0)
    assert bool(jnp.all(out.converged))
    np.testing.assert_allclose(out.sample, ref.sample, atol=1e-4)


def test_max_rounds_returns_the_best_iterate_and_its_bound(reference):
    errors = []
    for rounds in (2, 4, 6, 8):
        out = pcm.sample_picard(
            problems.mlp, problems.mlp_params(), problems.noise(), SOLVER, tol=0.0, max_rounds=rounds
        )
        assert set(out.result.tolist()) == {1}
        assert float(out.error_bound.min()) > 0
        errors.append(float(jnp.max(jnp.abs(out.sample - reference))))
    assert errors == sorted(errors, reverse=True)
    with pytest.raises(RuntimeError, match=r"MAX_ROUNDS .*raise max_rounds"):
        pcm.sample_picard(
            problems.mlp, problems.mlp_params(), problems.noise(), SOLVER, tol=0.0, max_rounds=2, throw=True
        )


def distance(out, reference):
    return np.sqrt(np.mean(np.square(np.asarray(out.sample) - np.asarray(reference)), axis=1))


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-3])
def test_the_bound_holds_and_is_within_the_tolerance(reference, window, tol):
    out = pcm.sample_picard(problems.mlp, problems.mlp_params(), problems.noise(), SOLVER, tol=tol, window=window)
    assert bool(jnp.all(out.converged))
    assert np.all(distance(out, reference) <= np.asarray(out.error_bound) + 1e-6)
    assert float(out.error_bound.max()) <= np.float32(tol)


def test_what_is_known_of_a_sample_that_ran_out_of_rounds(reference):
    args = (problems.mlp, problems.mlp_params(), problems.noise(), SOLVER)
    out = pcm.sample_picard(*args, tol=1e-5, max_rounds=5)
    assert set(out.result.tolist()) == {pcm.ResultCode.MAX_ROUNDS}
    assert np.isfinite(out.error_bound).all() and np.all(distance(out, reference) <= np.asarray(out.error_bound))
    # Of a trajectory that the fine-tuned model had a part in, of a preview and of an end not seen yet: nothing.
    near = pcm.switching.FeatureSpace(jax.tree.map(lambda leaf: 1.01 * leaf, problems.mlp_params()))
    for options in ({"adapter": near, "switch": pcm.switching.always()}, {"preview": (3,)}, {"window": 3}):
        out = pcm.sample_picard(*args, tol=1e-5, max_rounds=2, **options)
        assert np.isinf(out.error_bound).all()


def test_rows_past_the_end_cost_nothing(reference):
    """Devices that do not divide the window pad it; a front near the end leaves rows behind it."""
    args = (problems.mlp, problems.mlp_params(), problems.noise(), SOLVER)
    plain = pcm.sample_picard(*args, tol=1e-3)
    for executor in (pcm.parallel.pmap(5), pcm.parallel.shard_map(8)):
        out = pcm.sample_picard(*args, tol=1e-3, executor=executor)
        np.testing.assert_allclose(out.error_bound, plain.error_bound, rtol=1e-2, atol=1e-6)
        assert out.stats.rounds.tolist() == plain.stats.rounds.tolist()


def test_a_sample_whose_early_errors_grew_is_not_called_converged():
    """Every step behind the first few multiplies an error by eight: no share of tol is small enough."""

    def steep(params, x, t, cond):
        inside = jnp.tanh(x) + 0.3 * jnp.sin(x + t[:, None] / 100)
        return jnp.where(t[:, None] < 700, 8.0 * x, inside)

    solver = pcm.solvers.ddim(problems.VP, 12, prediction="data")
    args = (steep, problems.mlp_params(), problems.noise(), solver)
    exact = pcm.sample_sequential(*args)
    size = np.asarray(jnp.sqrt(jnp.mean(exact.sample**2, axis=1)))
    out = pcm.sample_picard(*args, tol=0.05, window=3)
    certified = np.asarray(out.converged)
    assert np.all(distance(out, exact.sample)[certified] <= 0.05 + 1e-5 * size[certified])
    assert np.all(np.asarray(out.error_bound)[~certified] > 0.05)


@pytest.mark.parametrize(("dtype", "tol"), [(jnp.float32, 1e-7), (jnp.bfloat16, 1e-3), (jnp.float16, 1e-4)])
def test_a_tolerance_below_the_rounding_warns(dtype, tol):
    def rounded(params, x, t, cond):
        return problems.mlp(params, x, t, cond).astype(x.dtype)

    args = (rounded, problems.mlp_params(), problems.noise().astype(dtype), SOLVER)
    with pytest.warns(UserWarning, match="rounding alone sets the samplers apart"):
        pcm.sample_picard(*args, tol=tol, max_rounds=1)
    pcm.sample_picard(*args, tol=0.0, max_rounds=1)  # no warning: asks for no bound
    pcm.sample_picard(*args, tol=1e-2, max_rounds=1)
