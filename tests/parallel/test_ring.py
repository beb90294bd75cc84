"""A window that slides over devices that hold their own rows: one device's samples, a part of its memory."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

import pcm_jax as pcm
from experiments.bench import programs
from pcm_jax.parallel import Along, WindowAxis
from pcm_jax.parallel.layout import dealt
from tests import problems
from tests.parallel.test_held_rows import NOISE, OPTIONS, PARAMS, STEP_NOISE, picard, program, same
from tests.problems import mlp

SHARD_MAP, ROW = pcm.parallel.shard_map, 4 * 4 * 6
# A window that has reached the end accepts rows whose defects are exactly 0 while its bound still falls: which round
# that is depends on the last bit, at a tolerance that waits for it.
slide = functools.partial(picard, tol=5e-2)


def held(text):
    """States that a device carries from round to round, of one sample or all."""
    return programs.state_bytes(text, (6,)) // ROW


@pytest.mark.parametrize(("window", "devices"), [(8, 8), (8, 4), (6, 4)])
def test_a_device_holds_and_sends_its_part(window, devices):
    """What moves is the same whatever the window slid by: numbers, what leaves each device's rows, two states."""
    share = -(-window // devices)
    lanes = share * devices
    noise = -(-16 // lanes) * share
    one, many = (program(each, window=window).as_text() for each in (pcm.parallel.single(), SHARD_MAP(devices)))
    assert held(one) == 3 * window + 1 + 16
    # x with the state before, the seam, how x moved, its steps, noise.
    assert held(many) == (share + 1) + 1 + 2 * share + noise
    sent = sorted((each.kind, each.shapes[0][1]) for each in programs.in_loop(many) if each.size > 4)
    assert sent == [
        *sorted(
            [
                ("all-gather", (lanes, 4, 7)),  # of each row and sample
                ("all-gather", (devices, 4, 7)),  # what leaves each device's rows, and their slopes' product
            ]
        ),
        ("all-reduce", (4, 6)),  # the window's last state, for rows that enter
        ("collective-permute", (1, 4, 6)),  # the last state of the device before
    ]


def test_rows_that_enter_from_a_guess_send_nothing():
    guess = OPTIONS["guess"]
    text = program(SHARD_MAP(4), window=8, **guess).as_text()
    assert held(text) == 3 + 1 + 2 * 2 + 2 * 2 + 2 * 3  # the guess lies in blocks of two rows and the state before
    kinds = sorted(each.kind for each in programs.in_loop(text) if each.size > 4)
    assert kinds == ["all-gather", "all-gather", "collective-permute"]


@pytest.mark.parametrize(("count", "window"), [(16, 4), (14, 4), (16, 6), (5, 5)])
def test_a_device_is_given_the_part_that_it_would_take(count, window):
    """And the parts of all are the table again."""
    mesh, table = Mesh(np.asarray(jax.devices()[:4]), ("rows",)), jnp.arange(2.0 * count).reshape(count, 2)
    axis = dataclasses.replace(WindowAxis("rows", 4), held=window)
    mapped = functools.partial(jax.shard_map, mesh=mesh, in_specs=PartitionSpec(), check_vma=False)
    parts = mapped(axis.part, out_specs=PartitionSpec("rows"))(table)
    np.testing.assert_array_equal(parts, dealt(Along(rows=True), table, 4, window))
    again = mapped(lambda table: axis.joined(axis.part(table), count), out_specs=PartitionSpec())(table)
    np.testing.assert_array_equal(again, table)


@pytest.mark.parametrize("name", ["ddim", "unipc", "dpm_solver_pp", "edm_stochastic", "ddim-threshold"])
def test_solvers(name):
    """Histories of three rows on devices that hold two of them, or one; last windows that are full, or not."""
    solver = problems.SOLVERS[name]()
    z = jax.random.normal(jax.random.key(2), (len(solver), *NOISE.shape)) if solver.stochastic else None
    for window, executor in ((7, SHARD_MAP(8)), (5, pcm.parallel.pmap(3)), (8, SHARD_MAP(4))):
        call = functools.partial(slide, solver=solver, z=z, window=window)
        same(call(executor=executor), call())


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option(name):
    """Six rows on four devices: two of the eight slots are idle."""
    call = functools.partial(slide, window=6, **OPTIONS[name])
    one, out = call(), call(executor=SHARD_MAP(4))
    same(out, one)
    if one.iterates is not None:
        np.testing.assert_allclose(out.iterates, one.iterates, atol=1e-4)
    np.testing.assert_allclose(out.error_bound, one.error_bound, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 15])
def test_narrow_and_wide_windows(window):
    call = functools.partial(slide, window=window)
    same(call(executor=SHARD_MAP(2)), call())


def test_a_window_narrower_than_its_history_is_whole_everywhere():
    """There is nothing to hold apart: the solver reads three rows back, and two lie in the window."""
    solver = problems.SOLVERS["unipc"]()
    call = functools.partial(slide, solver=solver, z=None, window=2)
    assert solver.depth > 2
    same(call(executor=SHARD_MAP(2)), call())


def test_samples_have_windows_of_their_own():
    """One that is done at once, one whose network breaks down, two between: certified, and the sequential sampler's."""

    def fragile(params, x, t, cond):
        return jnp.where((cond == 3)[:, None] & (t[:, None] < 300), jnp.inf, mlp(params, x, t, cond))

    solver = pcm.solvers.ddim(problems.VP, 24)
    arguments = (fragile, PARAMS, NOISE * jnp.array([0.01, 1.0, 3.0, 1.0])[:, None], solver)
    call = functools.partial(pcm.sample_picard, *arguments, cond=jnp.arange(4), tol=1e-3, window=8, stats="full")
    one, exact = call(), pcm.sample_sequential(*arguments, cond=jnp.arange(4))
    fronts = np.asarray(one.stats.accepted)
    assert any(len(set(row[:3])) > 1 for row in fronts), "samples that move alike test nothing"
    for executor in (SHARD_MAP(8), SHARD_MAP(3)):
        out = call(executor=executor)
        assert out.result.tolist() == one.result.tolist() == [0, 0, 0, 2]
        np.testing.assert_array_equal(out.stats.accepted, one.stats.accepted)
        np.testing.assert_allclose(out.sample[:3], one.sample[:3], atol=1e-4)
        errors = jnp.sqrt(jnp.mean((out.sample - exact.sample) ** 2, axis=1))[:3]
        assert bool(jnp.all(errors <= 1e-3))


def test_until_nothing_changes():
    one, out = picard(tol=0.0, window=6), picard(tol=0.0, window=6, executor=SHARD_MAP(4))
    np.testing.assert_array_equal(out.result, one.result)
    np.testing.assert_allclose(out.sample, one.sample, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("check_vma", [True, False])
def test_inside_somebody_elses_shard_map(check_vma):
    mesh = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("data", "rows"), axis_types=(AxisType.Auto,) * 2)
    solver = problems.SOLVERS["dpm_solver_pp"]()

    def call(x, executor):
        return picard(x, solver=solver, z=None, window=6, executor=executor, tol=1e-5).sample

    mapped = jax.shard_map(
        functools.partial(call, executor=pcm.parallel.inside("rows")),
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec("data"),
        check_vma=check_vma,
    )
    np.testing.assert_allclose(jax.jit(mapped)(NOISE), call(NOISE, pcm.parallel.single()), atol=1e-4)


def test_derivatives_and_vmap():
    many, one = (functools.partial(picard, window=6, executor=e) for e in (SHARD_MAP(4), pcm.parallel.single()))
    grads = [jax.grad(lambda z, f=f: jnp.sum(f(z=z).sample ** 2))(STEP_NOISE) for f in (many, one)]
    np.testing.assert_allclose(*grads, rtol=1e-3, atol=1e-3)
    lanes = jax.vmap(lambda x: many(x).sample)(jnp.stack([NOISE, -NOISE]))
    np.testing.assert_allclose(lanes[1], one(-NOISE).sample, atol=1e-5)


def test_scans():
    """A carry of two leaves, keys among the inputs, outputs, a cheaper step and a fine-tuned one."""
    xs = (jnp.linspace(0.0, 1.0, 16), jax.random.split(jax.random.key(0), 16), STEP_NOISE)

    def step(carry, x, size=0.05):
        (state, _), (t, key, z) = carry, x
        push = jnp.tanh(state @ PARAMS["w1"] + t) @ PARAMS["w2"]
        return (state + size * push + 0.01 * z + 0.01 * jax.random.normal(key, state.shape), push), push[:, 0]

    def cheap(carry, x):
        return (carry[0] + 0.01 * x[2], carry[1])

    init = (NOISE, jnp.zeros_like(NOISE))
    tuned = {"adapter_step": functools.partial(step, size=0.06), "switch": pcm.switching.after(2)}
    for options in ({}, {"guess": cheap}, {"return_trajectory": True, **tuned}):
        call = functools.partial(pcm.scan, step, init, xs, batch_axis=0, tol=1e-4, window=6, **options)
        one, out = call(), call(executor=SHARD_MAP(4))
        shown = [jax.tree.leaves((each.carry, each.ys, each.trajectory)) for each in (out, one)]
        for a, b in zip(*shown, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_array_equal(out.stats.rounds, one.stats.rounds)
    exact = jax.lax.scan(step, init, xs)
    np.testing.assert_allclose(out.carry[0], exact[0][0], atol=1e-3)
    np.testing.assert_allclose(out.ys, exact[1], atol=1e-2)


def test_scans_hold_their_part():
    def step(x, z):
        return x + 0.05 * (jnp.tanh(x @ PARAMS["w1"]) @ PARAMS["w2"]) + 0.01 * z

    def call(xs):
        return pcm.scan(step, NOISE, xs, batch_axis=0, window=8, executor=SHARD_MAP(8)).carry

    text = jax.jit(call).lower(STEP_NOISE).compile().as_text()
    assert held(text) == 2 + 1 + 2 + 2
    assert sum(each.size > 4 for each in programs.in_loop(text)) == 4
