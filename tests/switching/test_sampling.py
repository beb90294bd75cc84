"""A fine-tuned model in the loop: it changes the rounds and never the sample."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

import pcm_jax as pcm
from pcm_jax import switching
from tests import problems

NOISE = jax.random.normal(jax.random.key(0), (3, 6))
PARAMS = problems.mlp_params()
WRONG = jax.tree.map(lambda leaf: 3.0 * leaf + 0.3, PARAMS)
NEAR = jax.tree.map(lambda leaf: 1.02 * leaf, PARAMS)
KEY = jax.random.key(4)

SWITCHES = {
    "after": switching.after(2),
    "linear": switching.linear(1.0, 4),
    "frontier": switching.frontier(3),
    "calibrated": switching.calibrated((np.arange(12) >= np.array([[4], [9]])).astype(float)),
    "adaptive": switching.adaptive(0.1, 3),
    "residual": lambda see: jnp.where((see.age < 2) & (see.residual > 0.5), 0.5, 0.0),
}


def both(solver):
    key = KEY if solver.stochastic else None
    reference = pcm.sample_sequential(problems.mlp, PARAMS, NOISE, solver, key=key).sample
    sample = functools.partial(pcm.sample_picard, problems.mlp, PARAMS, NOISE, solver, key=key, tol=1e-4)
    return reference, sample


@pytest.mark.parametrize("name", problems.SOLVERS)
def test_a_badly_wrong_model_costs_rounds_and_never_exactness(name):
    solver = problems.SOLVERS[name]()
    reference, sample = both(solver)
    plain = sample()
    out = sample(adapter=switching.FeatureSpace(WRONG), switch=SWITCHES["after"])
    assert np.asarray(out.converged).all()
    np.testing.assert_allclose(out.sample, reference, atol=2e-3)
    assert int(out.stats.rounds.max()) >= int(plain.stats.rounds.max())


@pytest.mark.parametrize("window", [3, None])
@pytest.mark.parametrize("name", SWITCHES)
def test_every_switch_ends_in_the_base_models_sample(name, window):
    reference, sample = both(problems.SOLVERS["ddpm"]())
    out = sample(adapter=switching.FeatureSpace(WRONG), switch=SWITCHES[name], window=window)
    assert np.asarray(out.converged).all()
    np.testing.assert_allclose(out.sample, reference, atol=2e-3)


@pytest.mark.fast
def test_a_model_that_never_hands_back_is_never_called_converged():
    reference, sample = both(problems.SOLVERS["ddim"]())
    for adapter in (WRONG, NEAR):
        out = sample(adapter=switching.FeatureSpace(adapter), switch=switching.always())
        assert not np.asarray(out.converged).any()
        assert (np.asarray(out.result) == pcm.ResultCode.MAX_ROUNDS).all()
        assert np.max(np.abs(out.sample - reference)) > 1e-3


@pytest.mark.fast
def test_a_row_before_the_front_that_keeps_its_share_holds_all_behind_it():
    """Row 2 alone stays with the fine-tuned model for 12 rounds: nothing behind it is accepted before."""
    _, sample = both(problems.SOLVERS["ddim"]())
    out = sample(
        adapter=switching.FeatureSpace(NEAR),
        switch=lambda see: jnp.where((see.row == 2) & (see.age < 12), 1.0, 0.0),
        stats="full",
    )
    assert (np.asarray(out.stats.accepted)[:12] <= 2).all() and np.asarray(out.converged).all()


def test_never_is_the_base_model_and_the_base_model_as_its_own_adapter_changes_nothing():
    _, sample = both(problems.SOLVERS["dpm_solver_pp"]())
    plain = sample()
    for adapter, switch in ((WRONG, switching.never()), (PARAMS, switching.never())):
        out = sample(adapter=switching.FeatureSpace(adapter), switch=switch)
        # Another program, so XLA may fuse, and round, otherwise.
        np.testing.assert_allclose(out.sample, plain.sample, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(out.stats.rounds, plain.stats.rounds)


def test_executors_agree():
    reference, sample = both(problems.SOLVERS["ddpm"]())
    call = functools.partial(sample, adapter=switching.FeatureSpace(WRONG), switch=SWITCHES["linear"], window=6)
    single = call()
    mesh = Mesh(np.asarray(jax.devices()[:4]), ("mine",), axis_types=(AxisType.Auto,))
    inner = functools.partial(call, executor=pcm.parallel.inside("mine"))
    mapped = jax.shard_map(lambda: inner().sample, mesh=mesh, in_specs=(), out_specs=PartitionSpec())
    for out in (
        call(executor=pcm.parallel.pmap(3)).sample,
        call(executor=pcm.parallel.shard_map(8)).sample,
        jax.jit(mapped)(),
    ):
        np.testing.assert_allclose(out, single.sample, atol=1e-5)
    np.testing.assert_allclose(single.sample, reference, atol=2e-3)


def test_a_nan_of_the_fine_tuned_model_does_not_fail_the_sample():
    reference, sample = both(problems.SOLVERS["ddim"]())
    broken = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), PARAMS)
    out = sample(adapter=switching.FeatureSpace(broken), switch=switching.after(2))
    assert np.asarray(out.converged).all()
    np.testing.assert_allclose(out.sample, reference, atol=2e-3)


def test_the_gradient_is_the_base_models():
    solver = problems.SOLVERS["ddim"]()

    def loss(sample, params, noise):
        return jnp.sum(sample(params, noise).sample ** 2)

    def tuned(params, noise):
        options = {"adapter": switching.FeatureSpace(WRONG), "switch": switching.after(2), "tol": 1e-5}
        return pcm.sample_picard(problems.mlp, params, noise, solver, **options)

    def plain(params, noise):
        return pcm.sample_sequential(problems.mlp, params, noise, solver)

    found, expected = (jax.grad(functools.partial(loss, f), (0, 1))(PARAMS, NOISE) for f in (tuned, plain))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)


def test_other_weights_of_an_adapter_do_not_compile_again():
    calls = []

    def counted(params, x, t, cond):
        calls.append(1)
        return problems.mlp(params, x, t, cond)

    solver = problems.SOLVERS["ddim"]()

    def run(weights):
        adapter = switching.FeatureSpace(weights)
        return pcm.sample_picard(counted, PARAMS, NOISE, solver, adapter=adapter, switch=switching.after(2))

    run(WRONG)
    before = len(calls)
    run(NEAR)
    assert len(calls) == before


def test_quality_mode_returns_the_best_sample_so_far_with_its_bound():
    _, sample = both(problems.SOLVERS["ddim"]())
    out = sample(adapter=switching.FeatureSpace(NEAR), switch=switching.after(1), max_rounds=2)
    assert (np.asarray(out.result) == pcm.ResultCode.MAX_ROUNDS).all()
    assert np.isfinite(out.sample).all() and (np.asarray(out.error_bound) > 0).all()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": switching.FeatureSpace(PARAMS)}, "pass switch= such as"),
        ({"switch": switching.after(2)}, "pass adapter="),
        ({"adapter": switching.FeatureSpace, "switch": switching.after(2)}, "adapter must be an object"),
        ({"adapter": switching.FeatureSpace(PARAMS), "switch": switching.after}, "call it first"),
        ({"adapter": switching.FeatureSpace(PARAMS), "switch": "after"}, "switch must be a hashable function"),
        ({"adapter": switching.FeatureSpace(PARAMS), "switch": lambda see: see.age * 0.5}, "outside .0, 1. in round 3"),
        ({"adapter": switching.FeatureSpace(PARAMS), "switch": lambda see: -see.residual}, "outside .0, 1."),
        ({"adapter": switching.FeatureSpace(PARAMS), "switch": lambda see: jnp.float32(1)}, r"lambda \[W, B\]"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        pcm.sample_picard(problems.mlp, PARAMS, NOISE, problems.SOLVERS["ddim"](), **options)


def test_a_switch_that_was_never_seen_is_checked_inside_a_traced_function():
    solver = problems.SOLVERS["ddim"]()

    @jax.jit
    def larger(params, noise, table):
        # Made here, so no earlier call has checked it.
        switch = switching.calibrated(np.tile([0.25, 1.0, 0.75], (2, 4)))
        near = switching.FeatureSpace(jax.tree.map(lambda leaf: leaf * table, params))
        return pcm.sample_picard(problems.mlp, params, noise, solver, tol=1e-4, adapter=near, switch=switch).sample

    reference = pcm.sample_sequential(problems.mlp, PARAMS, NOISE, solver).sample
    np.testing.assert_allclose(larger(PARAMS, NOISE, 1.02), reference, atol=2e-3)
