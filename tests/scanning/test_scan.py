"""`pcm.scan` is `lax.scan`: every solver as a step, every option, every transform."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from tests import problems
from tests.scanning import steps

STEP, INIT, XS = steps.of_table(pcm.solvers.ddim(problems.VP, 12))
scan = functools.partial(pcm.scan, STEP, INIT, XS, batch_axis=0)
LAST = steps.oracle(STEP, INIT, XS)[0]


SOLVERS = problems.SOLVERS | {
    "alphafold3": lambda: pcm.solvers.alphafold3(10),
    "ddim-raw": lambda: pcm.solvers.ddim(problems.VP, 12, clip=1.0, clipped_noise=False),
    "deis": lambda: pcm.solvers.deis(problems.VP, 12),
    "dpm2": lambda: pcm.solvers.dpm2(problems.VP, 7),
    "dpm_solver_pp-3": lambda: pcm.solvers.dpm_solver_pp(problems.VP, 16, order=3),
    "euler_ancestral": lambda: pcm.solvers.euler_ancestral(problems.VP, 12),
    "lms": lambda: pcm.solvers.lms(problems.VP, 12),
}


def rms(a, b):
    return np.sqrt(np.mean(np.square(np.asarray(a) - np.asarray(b)), axis=tuple(range(1, np.ndim(a)))))


def close(ours, theirs):
    """To float32's rounding over twelve steps."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("name", SOLVERS)
def test_every_solver_as_a_step_is_lax_scan(name, window):
    solver = SOLVERS[name]()
    step, init, xs = steps.of_table(solver, key=problems.key_for(solver))
    last, _, states = steps.oracle(step, init, xs)
    # One program: tolerances are values.
    run = functools.partial(pcm.scan, step, init, xs, batch_axis=0, window=window, return_trajectory=True)
    exact = run(tol=0.0)
    size = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(states))
    assert exact.converged.all() and exact.stats.rounds.max() <= len(solver)
    chex.assert_trees_all_close(exact.carry, last, atol=2e-5 * size)
    chex.assert_trees_all_close(jax.tree.map(lambda leaf: leaf[1:], exact.trajectory), states, atol=2e-5 * size)
    near = run(tol=1e-2)
    ours, theirs = (jax.tree.leaves(tree)[0] for tree in (near.carry, last))
    certified = np.asarray(near.converged)
    assert np.all(np.asarray(near.error_bound)[certified] <= np.float32(1e-2))
    assert np.all(rms(ours, theirs)[certified] <= 1e-2 + 2e-5 * size)


@pytest.mark.parametrize("window", [None, 9])
def test_alphafold_3s_sampler(window):
    step, init, xs = steps.churned()
    out = pcm.scan(step, init, xs, batch_axis=0, window=window, tol=1e-3)
    assert out.converged.all()
    assert np.all(rms(out.carry, steps.oracle(step, init, xs)[0]) <= 1e-3)


@pytest.mark.fast
def test_one_sample_and_a_batch_of_samples_agree():
    whole = scan(tol=0.0)
    assert whole.result.shape == whole.error_bound.shape == (4,)
    one = pcm.scan(STEP, INIT, XS, tol=0.0, stats="full")
    assert one.result.shape == one.error_bound.shape == one.stats.rounds.shape == ()
    close(one.carry, whole.carry)
    close(whole.carry, LAST)
    assert len(one.stats.bounds) == 12 and one.stats.bounds.ndim == 1


def test_samples_have_bounds_and_results_of_their_own():
    """The third sample's step is a stiff one; the others are done long before, and stay what they were."""
    strength = jnp.array([0.05, 0.05, 8.0, 0.05])[:, None]

    def step(x, t):
        return x + 0.1 * jnp.sin(strength * x + t)

    xs = jnp.linspace(0.0, 3.0, 30)
    out = pcm.scan(step, INIT, xs, batch_axis=0, tol=1e-3)
    assert out.stats.rounds[2] > 1.5 * out.stats.rounds[0]
    alone = pcm.scan(lambda x, t: x + 0.1 * jnp.sin(0.05 * x + t), INIT[:1], xs, batch_axis=0, tol=1e-3)
    assert alone.stats.rounds[0] == out.stats.rounds[0]
    np.testing.assert_allclose(out.carry[0], alone.carry[0], atol=1e-6)
    assert np.all(rms(out.carry, steps.oracle(step, INIT, xs)[0]) <= 1e-3)
    few = pcm.scan(step, INIT, xs, batch_axis=0, tol=1e-3, max_rounds=int(out.stats.rounds[0]))
    assert few.converged.tolist() == [True, True, False, True]
    with pytest.raises(RuntimeError, match="MAX_ROUNDS for samples 2: "):
        few.raise_for_result()
    with pytest.raises(RuntimeError, match="MAX_ROUNDS for samples 0, 1"):
        pcm.scan(step, INIT, xs, batch_axis=0, tol=1e-3, max_rounds=1, throw=True)


def test_vmap_of_one_sample_gives_each_a_window_of_its_own():
    rows = jax.vmap(lambda x: pcm.scan(lambda c, r: STEP(c[None], r)[0], x, XS, window=4, tol=1e-3))(INIT)
    assert rows.converged.all()
    np.testing.assert_allclose(rows.carry, LAST, atol=2e-3)


def test_ys_are_those_of_the_trajectory():
    def step(carry, inputs):
        new = STEP(carry, inputs)
        return new, {"norm": jnp.sum(new**2, axis=1), "count": jnp.sum(new > 0), "flag": inputs[0].time > 500}

    _, ys, _ = steps.oracle(step, INIT, XS)
    for window in (None, 5):
        out = pcm.scan(step, INIT, XS, batch_axis=0, tol=0.0, window=window)
        chex.assert_trees_all_close(out.ys, ys, atol=1e-4)
        assert out.ys["flag"].dtype == bool
    assert scan().ys is None


def test_length_without_xs_and_keys_in_xs():
    out = pcm.scan(lambda x, _: x * 0.9 + 0.1 * jnp.tanh(x), INIT, None, length=20, batch_axis=0, tol=0.0)
    np.testing.assert_allclose(
        out.carry, jax.lax.fori_loop(0, 20, lambda _, x: x * 0.9 + 0.1 * jnp.tanh(x), INIT), atol=1e-6
    )

    def noisy(x, key):
        return 0.9 * x + 0.1 * jax.random.normal(key, x.shape)

    keys = jax.random.split(jax.random.key(3), 10)
    np.testing.assert_allclose(
        pcm.scan(noisy, INIT, keys, batch_axis=0, tol=0.0).carry, steps.oracle(noisy, INIT, keys)[0], atol=1e-6
    )


def test_a_history_in_the_carry_has_slope_0():
    """DPM-Solver++ as (x, last data prediction) beside a noise level that a user carries along."""
    step, (x, old), (rows, _) = steps.of_table(pcm.solvers.dpm_solver_pp(problems.VP, 16))

    @jax.jit
    def carried(carry, row):
        x, level, old = carry
        new, f = step((x, old), (row, None))
        return new, jnp.full_like(level, row.sigma), f

    from pcm_jax.scanning.trace import trace

    init = (x, jnp.ones(len(x)), old)
    first = jax.tree.map(lambda column: column[0], rows)
    assert trace(carried, init, first)[0].recurrent == (True, False, False)
    out = pcm.scan(carried, init, rows, batch_axis=0, tol=1e-3)
    last = steps.oracle(carried, init, rows)[0]
    assert out.converged.all()
    assert all(np.all(rms(a, b) <= 1e-3) for a, b in zip(out.carry, last, strict=True))
    assert out.stats.rounds.max() < 16


def test_a_first_guess_changes_the_rounds_alone():
    step, init, xs = steps.churned(steps=60)
    last, _, states = steps.oracle(step, init, xs)
    plain = pcm.scan(step, init, xs, batch_axis=0)

    def silent(x, inputs):
        now, then, noise = inputs
        hat = now * (1 + jnp.where(now > 1.0, 0.8, 0.0))
        x = x + 1.003 * jnp.sqrt(jnp.maximum(hat**2 - now**2, 0.0)) * noise
        return x + 1.5 * (then - hat) * x / hat

    cheap = pcm.scan(step, init, xs, batch_axis=0, guess=silent)
    exact = pcm.scan(step, init, xs, batch_axis=0, guess=jnp.concatenate([init[None], states]))
    for out in (plain, cheap, exact):
        assert out.converged.all() and np.all(rms(out.carry, last) <= 1e-2)
    assert exact.stats.rounds.max() <= 2 < cheap.stats.rounds.mean() < plain.stats.rounds.mean()


def test_an_adapter_step_shortens_the_way_and_is_never_certified():
    states = steps.oracle(STEP, INIT, XS)[2]
    exact = jnp.concatenate([INIT[None], states])

    def knows(x, inputs):
        row, _ = inputs
        at = jnp.argmin(jnp.abs(jnp.asarray(XS[0].time) - row.time))
        return x + exact[at + 1] - exact[at]

    plain = scan(tol=1e-4)
    helped = scan(tol=1e-4, adapter_step=knows, switch=pcm.switching.after(1))
    assert helped.converged.all() and helped.stats.rounds.mean() < plain.stats.rounds.mean()
    np.testing.assert_allclose(helped.carry, LAST, atol=1e-3)
    always = scan(tol=1e6, adapter_step=knows, switch=pcm.switching.always())
    assert not always.converged.any() and np.all(np.isinf(always.error_bound))
    wrong = scan(tol=1e-4, adapter_step=lambda x, _: x * jnp.nan, switch=pcm.switching.after(2))
    assert wrong.converged.all()
    np.testing.assert_allclose(wrong.carry, LAST, atol=1e-3)


@pytest.mark.parametrize("slope", ["identity", "zero", "secant"])
def test_slopes_and_certificates(slope):
    found = scan(tol=0.0, linearization=getattr(pcm.linearization, slope)())
    close(found.carry, LAST)
    assert scan(linearization=pcm.linearization.constant(0.7), tol=0.0).converged.all()
    assert scan(certificate=pcm.certificates.last_change(pcm.norms.root_mean_square)).converged.all()


@pytest.mark.parametrize("window", [None, 7])
def test_executors(window):
    step, init, xs = steps.of_table(pcm.solvers.dpm_solver_pp(problems.VP, 12))
    here = pcm.scan(step, init, xs, batch_axis=0, window=window, tol=1e-3)
    for executor in (pcm.parallel.pmap(3), pcm.parallel.shard_map(4)):
        there = pcm.scan(step, init, xs, batch_axis=0, window=window, tol=1e-3, executor=executor)
        chex.assert_trees_all_close(there.carry, here.carry, atol=1e-5)
        assert there.stats.rounds.tolist() == here.stats.rounds.tolist()


@pytest.mark.parametrize("check_vma", [True, False])
def test_inside_somebodys_shard_map(check_vma):
    """The batch is sharded over one axis, the window over the other; parameters that vary are closed over."""
    mesh = jax.make_mesh((2, 2), ("data", "rows"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    spec = jax.sharding.PartitionSpec("data")

    def local(x, scale):
        step = lambda x, t: x + 0.1 * jnp.tanh(scale * x + t)  # noqa: E731
        times = jnp.linspace(0.0, 1.0, 12)
        return pcm.scan(step, x, times, batch_axis=0, tol=0.0, executor=pcm.parallel.inside("rows")).carry

    scale = jnp.linspace(0.5, 2.0, 4)[:, None]
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(spec, spec), out_specs=spec, check_vma=check_vma)
    reference = steps.oracle(lambda x, t: x + 0.1 * jnp.tanh(scale * x + t), INIT, jnp.linspace(0.0, 1.0, 12))[0]
    close(jax.jit(mapped)(INIT, scale), reference)


def test_jit_and_a_scan_over_scans():
    close(jax.jit(lambda x: pcm.scan(STEP, x, XS, batch_axis=0, tol=0.0).carry)(INIT), LAST)
    twice = jax.lax.scan(lambda c, x: (c, pcm.scan(STEP, x, XS, batch_axis=0, tol=0.0).carry), None, INIT[None])[1]
    close(twice[0], LAST)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes(dtype):
    with jax.enable_x64(dtype == "float64"):
        xs = jnp.linspace(0.0, 1.0, 12).astype(dtype)
        step = lambda x, t: (x + 0.1 * jnp.tanh(x + t)).astype(dtype)  # noqa: E731
        out = pcm.scan(step, INIT.astype(dtype), xs, batch_axis=0, tol=0.0)
        assert out.carry.dtype == dtype and out.converged.all()
        error = np.abs(np.asarray(out.carry - steps.oracle(step, INIT.astype(dtype), xs)[0], np.float64)).max()
        assert error <= {"bfloat16": 2e-2, "float16": 4e-3, "float64": 1e-13}[dtype]


def test_a_nan_ends_a_sample_and_no_other():
    bad = INIT.at[1].set(jnp.nan)
    out = scan_of(bad)
    assert out.result.tolist() == [0, 2, 0, 0]
    assert np.isnan(out.carry[1]).all() and np.isinf(out.error_bound[1])
    np.testing.assert_allclose(out.carry[0], LAST[0], atol=2e-2)


def scan_of(init):
    return pcm.scan(STEP, init, XS, batch_axis=0)
