"""The samplers are pure functions: jit, vmap, scan, grad and repeated calls."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from tests import problems

SOLVER = pcm.solvers.ddim(problems.VP, 12)
PARAMS, NOISE = problems.mlp_params(), problems.noise()
picard = functools.partial(pcm.sample_picard, problems.mlp, PARAMS, solver=SOLVER, tol=1e-3, window=6)


@pytest.fixture(scope="module")
def plain():
    return picard(NOISE)


@pytest.mark.fast
def test_jit_of_a_larger_function(plain):
    out = jax.jit(lambda x: jnp.tanh(picard(x).sample))(NOISE)
    np.testing.assert_allclose(out, jnp.tanh(plain.sample), atol=1e-5)


def test_the_table_and_the_tolerance_may_be_traced(plain):
    out = jax.jit(lambda x, table, tol: picard(x, solver=table, tol=tol))(NOISE, SOLVER, 1e-3)
    np.testing.assert_allclose(out.sample, plain.sample, atol=1e-5)


def test_vmap_keeps_every_front(plain):
    stacked = jnp.stack([NOISE, 0.1 * NOISE])
    out = jax.vmap(picard)(stacked)
    other = picard(stacked[1])
    np.testing.assert_allclose(out.sample[0], plain.sample, atol=1e-5)
    np.testing.assert_allclose(out.sample[1], other.sample, atol=1e-5)
    # Under vmap the loop runs until all are done; who was done earlier must not count on.
    assert out.stats.rounds[0].tolist() == plain.stats.rounds.tolist()
    assert out.stats.rounds[1].tolist() == other.stats.rounds.tolist()
    assert out.stats.evaluations[1].tolist() == other.stats.evaluations.tolist()


def test_a_slow_sample_does_not_hold_the_window_of_a_fast_one():
    def stiff(params, x, t, cond):
        return cond[:, None] * problems.mlp(params, x, t, None)

    strength = jnp.array([0.02, 2.0])
    sample = functools.partial(pcm.sample_picard, stiff, PARAMS, solver=SOLVER, tol=1e-3, window=6)
    together = sample(NOISE[:2], cond=strength)
    assert int(together.stats.rounds[0]) != int(together.stats.rounds[1])
    for row in range(2):
        alone = sample(NOISE[row : row + 1], cond=strength[row : row + 1])
        assert int(together.stats.rounds[row]) == int(alone.stats.rounds[0])
        assert int(together.stats.evaluations[row]) == int(alone.stats.evaluations[0])


def test_scan_over_calls(plain):
    _, samples = jax.lax.scan(lambda carry, x: (carry, picard(x).sample), None, jnp.stack([NOISE, NOISE]))
    np.testing.assert_allclose(samples[1], plain.sample, atol=1e-5)


def test_other_values_do_not_compile_again():
    traces = 0

    def counted(params, x, t, cond):
        nonlocal traces
        traces += 1
        return problems.mlp(params, x, t, cond)

    def call(scale, tol):
        table = pcm.solvers.ddim(problems.VP, 12, eta=0.0, spacing="trailing" if scale > 1 else "leading")
        sample = functools.partial(pcm.sample_picard, counted, jax.tree.map(lambda p: p * scale, PARAMS))
        return sample(NOISE * scale, table, tol=tol).sample, pcm.sample_sequential(counted, PARAMS, NOISE, table).sample

    call(1.0, 1e-2)
    first = traces
    call(2.0, 1e-3)
    call(0.5, 0.0)
    assert traces == first


def test_chex_variants_agree(plain):
    traced = jax.jit(chex.assert_max_traces(lambda x: picard(x).sample, n=1))
    for scale in (1.0, 2.0):
        traced(NOISE * scale)
    np.testing.assert_allclose(traced(NOISE), plain.sample, atol=1e-5)


def test_step_noise_depends_on_step_and_sample_only():
    solver = pcm.solvers.ddpm(problems.VP, 12)
    draw = functools.partial(pcm.sample_sequential, problems.mlp, PARAMS, solver=solver, key=jax.random.key(3))
    np.testing.assert_allclose(draw(NOISE[:2]).sample, draw(NOISE).sample[:2], atol=1e-5)
    first, second = draw(jnp.concatenate([NOISE[:1], NOISE[:1]])).sample
    assert float(jnp.max(jnp.abs(first - second))) > 0.1


def test_bfloat16_network_with_float32_states():
    ref = pcm.sample_sequential(problems.mlp, PARAMS, NOISE.astype(jnp.bfloat16), SOLVER)
    out = picard(NOISE.astype(jnp.bfloat16), tol=0.0)
    assert ref.sample.dtype == out.sample.dtype == jnp.float32
    # bfloat16 has 8 bits: one rounding of the network's input or output is 0.4 %.
    np.testing.assert_allclose(out.sample, ref.sample, atol=4e-3 * float(jnp.max(jnp.abs(ref.sample))))


def test_float64_states_when_enabled():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: p.astype(jnp.float64), PARAMS)
        noise = NOISE.astype(jnp.float64)
        ref = pcm.sample_sequential(problems.mlp, params, noise, SOLVER)
        out = pcm.sample_picard(problems.mlp, params, noise, SOLVER, tol=0.0)
        assert out.sample.dtype == jnp.float64
        np.testing.assert_allclose(out.sample, ref.sample, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["ddim", "ddim-clip", "ddpm", "dpm_solver_pp", "heun"])
def test_gradient_through_the_fixed_point_is_the_sequential_one(name):
    solver = problems.SOLVERS[name]()
    labels, key = jnp.arange(4), problems.key_for(solver)
    weight = jax.random.normal(jax.random.key(1), NOISE.shape)

    def loss(sampler, params, noise, scale):
        model = functools.partial(_labelled)
        out = sampler(model, params, noise, solver, cond={"label": labels, "scale": scale}, key=key)
        return jnp.sum(weight * out.sample)

    args = (PARAMS, NOISE, jnp.ones(4))
    ours = jax.grad(functools.partial(loss, functools.partial(pcm.sample_picard, tol=1e-5)), argnums=(0, 1, 2))(*args)
    true = jax.grad(functools.partial(loss, pcm.sample_sequential), argnums=(0, 1, 2))(*args)
    chex.assert_trees_all_close(ours, true, rtol=1e-3, atol=1e-3 * float(jnp.max(jnp.abs(true[1]))))
    assert float(jnp.max(jnp.abs(true[2]))) > 0


def _labelled(params, x, t, cond):
    return problems.mlp(params, x, t, cond["label"]) * cond["scale"][:, None]


def test_gradient_of_trajectory_and_step_noise():
    solver = pcm.solvers.ddpm(problems.VP, 8)
    z = jax.random.normal(jax.random.key(4), (8, *NOISE.shape))

    def loss(sampler, z):
        out = sampler(problems.mlp, PARAMS, NOISE, solver, step_noise=z, return_trajectory=True)
        return jnp.sum(jnp.sin(out.trajectory[3]) + out.sample)

    ours = jax.grad(functools.partial(loss, functools.partial(pcm.sample_picard, tol=0.0)))(z)
    true = jax.grad(functools.partial(loss, pcm.sample_sequential))(z)
    np.testing.assert_allclose(ours, true, rtol=1e-3, atol=1e-5)


def test_gradient_of_the_solver_table():
    """The table is an argument like any other: learned solvers differentiate it."""

    def loss(sampler, table):
        return jnp.sum(sampler(problems.mlp, PARAMS, NOISE, table).sample ** 2)

    table = pcm.solvers.dpm_solver_pp(problems.VP, 16, clip=2.0)
    ours = jax.grad(functools.partial(loss, functools.partial(pcm.sample_picard, tol=0.0)))(table)
    true = jax.grad(functools.partial(loss, pcm.sample_sequential))(table)
    columns = {"history": ours.history[0]} | {
        name: getattr(ours, name) for name in ("time", "a", "b", "data_x", "data_p")
    }
    for column, found in columns.items():
        expected = true.history[0] if column == "history" else getattr(true, column)
        scale = float(jnp.max(jnp.abs(expected)))
        assert scale > 0, column
        np.testing.assert_allclose(found, expected, atol=1e-3 * scale, err_msg=column)


def test_gradient_with_several_rows_of_history():
    """Of the table too, in a window whose edge carries rows of the history."""

    def loss(sampler, noise, table):
        return jnp.sum(sampler(problems.mlp, PARAMS, noise, table).sample ** 2)

    table = pcm.solvers.unipc(problems.VP, 9, order=3, prediction="data", clip=2.0)
    assert table.depth == 3
    picard = functools.partial(pcm.sample_picard, tol=0.0, window=5)
    ours, true = (
        jax.grad(functools.partial(loss, sampler), argnums=(0, 1))(NOISE, table)
        for sampler in (picard, pcm.sample_sequential)
    )
    for found, expected in zip(jax.tree.leaves(ours), jax.tree.leaves(true), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3 * max(1e-3, float(jnp.max(jnp.abs(expected)))))
    assert all(float(jnp.max(jnp.abs(column))) > 0 for column in true[1].history)


def test_the_backward_pass_is_compiled_once():
    traces = 0

    def counted(params, x, t, cond):
        nonlocal traces
        traces += 1
        return problems.mlp(params, x, t, cond)

    counts = []
    for scale in (1.0, 2.0, 3.0):
        jax.grad(lambda x: jnp.sum(pcm.sample_picard(counted, PARAMS, x, SOLVER).sample))(scale * NOISE)
        counts.append(traces)
    assert counts[0] == counts[-1]


def test_gradient_inside_jit_and_vmap():
    grad = jax.grad(lambda x: jnp.sum(picard(x).sample ** 2))
    one = grad(NOISE)
    np.testing.assert_allclose(jax.jit(grad)(NOISE), one, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jax.vmap(grad)(jnp.stack([NOISE, NOISE]))[1], one, rtol=1e-4, atol=1e-4)


def test_a_closure_over_what_is_differentiated_names_the_remedy():
    def loss(params):
        closed = lambda _, x, t, cond: problems.mlp(params, x, t, cond)  # noqa: E731
        return jnp.sum(pcm.sample_picard(closed, None, NOISE, SOLVER).sample)

    with pytest.raises(ValueError, match="pass them in params or cond"):
        jax.grad(loss)(PARAMS)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm_solver_pp", "heun"])
def test_forward_mode_and_second_derivatives_are_the_sequential_ones(name):
    solver = problems.SOLVERS[name]()
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: p.astype(jnp.float64), PARAMS)
        noise, key = NOISE.astype(jnp.float64), problems.key_for(solver)
        direction = (jax.tree.map(jnp.ones_like, params), jnp.cos(noise))

        def measured(sampler):
            def loss(params, noise):
                return jnp.sum(jnp.sin(sampler(problems.mlp, params, noise, solver, key=key).sample))

            gradient = jax.grad(loss, argnums=(0, 1))
            forward = jax.jvp(loss, (params, noise), direction)[1]
            over_reverse = jax.jvp(gradient, (params, noise), direction)[1]
            reverse_twice = jax.grad(lambda x: jnp.vdot(gradient(params, x)[1], direction[1]))(noise)
            return forward, over_reverse, reverse_twice

        ours, true = measured(functools.partial(pcm.sample_picard, tol=0.0)), measured(pcm.sample_sequential)
        scale = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(true))
        assert scale > 1
        chex.assert_trees_all_close(ours, true, rtol=1e-4, atol=1e-6 * scale)


def test_a_hessian_vector_product_under_jit_and_vmap():
    def loss(sampler, x):
        return jnp.sum(sampler(problems.mlp, PARAMS, x, SOLVER).sample ** 2)

    def product(sampler, v):
        return jax.jvp(jax.grad(functools.partial(loss, sampler)), (NOISE,), (v,))[1]

    directions = jax.random.normal(jax.random.key(5), (3, *NOISE.shape))
    ours = jax.jit(jax.vmap(functools.partial(product, functools.partial(pcm.sample_picard, tol=0.0))))(directions)
    true = jax.vmap(functools.partial(product, pcm.sample_sequential))(directions)
    np.testing.assert_allclose(ours, true, rtol=1e-3, atol=1e-3 * float(jnp.max(jnp.abs(true))))
