"""With all rows in the window a device holds its own: one device's samples, a part of its memory, three transfers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

import pcm_jax as pcm
from experiments.bench import programs
from pcm_jax import linearization, switching
from tests import problems

PARAMS, NOISE = problems.mlp_params(), problems.noise()
SOLVER = pcm.solvers.ddpm(problems.VP, 16)
STEP_NOISE = jax.random.normal(jax.random.key(1), (16, *NOISE.shape))


def picard(noise=NOISE, solver=SOLVER, z=STEP_NOISE, **options):
    options = {"tol": 1e-3, "return_trajectory": True, "stats": "full"} | options
    return pcm.sample_picard(problems.mlp, PARAMS, noise, solver, step_noise=z, **options)


def same(out, one):
    size = max(1.0, float(jnp.max(jnp.abs(one.trajectory))))
    np.testing.assert_allclose(out.trajectory, one.trajectory, rtol=0, atol=1e-5 * size)
    np.testing.assert_allclose(out.sample, one.sample, rtol=0, atol=1e-5 * size)
    for name in ("rounds", "evaluations", "accepted"):
        np.testing.assert_array_equal(getattr(out.stats, name), getattr(one.stats, name))


def program(executor, **options):
    call = functools.partial(picard, executor=executor, return_trajectory=False, stats="counts", **options)
    return jax.jit(lambda z: call(z=z).sample).lower(STEP_NOISE).compile()


@pytest.mark.fast
def test_a_device_holds_and_sends_its_part():
    """States, history and step noise; what every device learns of all rows are seven numbers of each."""
    one, eight = program(pcm.parallel.single()), program(pcm.parallel.shard_map(8))
    text, row = eight.as_text(), 4 * 6
    held = programs.state_bytes(text, (6,))
    assert held == 4 * row * (3 + 2 + 2 + 2)  # x with the state that follows, how it moved, its steps, noise
    assert programs.state_bytes(one.as_text(), (6,)) == 4 * row * (17 + 16 + 16 + 16)
    assert eight.memory_analysis().argument_size_in_bytes == STEP_NOISE.nbytes // 8
    sent = {each.shapes: each.kind for each in programs.in_loop(text) if each.size > 4}
    assert sent == {
        (("f32", (16, 4, 7)),): "all-gather",  # of each row and sample
        (("f32", (8, 4, 7)),): "all-gather",  # what leaves each device's rows, and their slopes' product
        (("f32", (1, 4, 6)),): "collective-permute",  # the last state of the device before
    }


def test_with_unknown_rules_all_rows_are_everywhere():
    """A slope of somebody's own may look at any row."""
    secant = linearization.secant()

    @dataclasses.dataclass(frozen=True)
    class Mean:
        needs_history: bool = True

        def slope(self, rows, x, step, before, first):
            found = secant.slope(rows, x, step, before, first)
            return jnp.broadcast_to(jnp.mean(found, 0, keepdims=True), found.shape)

    executor = pcm.parallel.shard_map(4)
    for window in (16, 6):
        options = {"linearization": Mean(), "window": window}
        same(picard(executor=executor, **options), picard(**options))
        assert ("f32", (window + 1, 4, 6)) in programs.carried(program(executor, **options).as_text())


@pytest.mark.parametrize("name", ["unipc", "dpm_solver_pp", "edm_stochastic", "ddim-threshold"])
def test_solvers_whose_rows_read_earlier_ones(name):
    """A history of three rows on devices that hold two of them, or one."""
    solver = problems.SOLVERS[name]()
    z = jax.random.normal(jax.random.key(2), (len(solver), *NOISE.shape)) if solver.stochastic else None
    call = functools.partial(picard, solver=solver, z=z)
    one = call()
    for executor in (pcm.parallel.shard_map(8), pcm.parallel.pmap(3)):
        same(call(executor=executor), one)


OPTIONS = {
    "guess": {"init": jnp.stack([NOISE * (1 - i / 16) for i in range(17)])},
    "prior": {"prior": pcm.priors.fit_prior(np.random.default_rng(0).normal(size=(64, 6)), rank=2)},
    "adapter": {
        "adapter": switching.FeatureSpace(jax.tree.map(lambda leaf: 2 * leaf, PARAMS)),
        "switch": switching.frontier(6),
    },
    "adaptive switch": {
        "adapter": switching.FeatureSpace(jax.tree.map(lambda leaf: 1.1 * leaf, PARAMS)),
        "switch": switching.adaptive(0.1, 3),
    },
    "rounds and previews": {"return_rounds": True, "preview": (3, 9, 16), "max_rounds": 4},
    "last change": {"certificate": pcm.certificates.last_change()},
    "largest defect": {"certificate": pcm.certificates.defect_sum(pcm.norms.largest)},
    "steep slopes": {"linearization": linearization.constant(1.3)},
    "negative slopes": {"linearization": linearization.constant(-0.4)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option(name):
    one, out = picard(**OPTIONS[name]), picard(**OPTIONS[name], executor=pcm.parallel.shard_map(5))
    same(out, one)
    if one.iterates is not None:
        np.testing.assert_allclose(out.iterates, one.iterates, atol=1e-4)
    # The bound at tol = 0 is round-off itself.
    np.testing.assert_allclose(out.error_bound, one.error_bound, rtol=1e-3, atol=1e-5)


def test_until_nothing_changes():
    """Which round that is depends on the last bits, and so on the order of sums."""
    one, out = picard(tol=0.0), picard(tol=0.0, executor=pcm.parallel.shard_map(5))
    np.testing.assert_array_equal(out.result, one.result)
    np.testing.assert_allclose(out.sample, one.sample, rtol=1e-5, atol=1e-5)


def test_products_of_slopes_that_overflow():
    """1.3 to the power of 400 is no float32: where nothing comes in from other devices nothing is added."""
    solver = pcm.solvers.ddim(problems.VP, 400)
    steep = {"linearization": linearization.constant(1.3), "max_rounds": 2, "solver": solver, "z": None}
    out, one = picard(executor=pcm.parallel.shard_map(2), **steep), picard(**steep)
    assert np.isfinite(out.trajectory[:100]).all()
    np.testing.assert_allclose(out.trajectory[:40], one.trajectory[:40], rtol=1e-4, atol=1e-4)


def test_a_broken_network_ends_alike():
    def fragile(params, x, t, cond):
        return jnp.where((cond == 3)[:, None] & (t[:, None] < 300), jnp.inf, problems.mlp(params, x, t, cond))

    call = functools.partial(
        pcm.sample_picard, fragile, PARAMS, NOISE, SOLVER, step_noise=STEP_NOISE, tol=1e-3, cond=jnp.arange(4)
    )
    one, out = call(), call(executor=pcm.parallel.shard_map(8))
    assert out.result.tolist() == one.result.tolist() == [0, 0, 0, 2]
    np.testing.assert_array_equal(out.stats.rounds, one.stats.rounds)
    np.testing.assert_allclose(out.sample[:3], one.sample[:3], atol=1e-5)


@pytest.mark.parametrize("check_vma", [True, False])
def test_inside_somebody_elses_shard_map(check_vma):
    """Rows over one axis, the caller's samples over the other, derivatives through both."""
    mesh = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("data", "rows"), axis_types=(AxisType.Auto,) * 2)

    def call(x, z, executor):
        return picard(x, z=z, executor=executor, tol=1e-5).sample

    mapped = jax.shard_map(
        functools.partial(call, executor=pcm.parallel.inside("rows")),
        mesh=mesh,
        in_specs=(PartitionSpec("data"), PartitionSpec(None, "data")),
        out_specs=PartitionSpec("data"),
        check_vma=check_vma,
    )
    one = functools.partial(call, executor=pcm.parallel.single())
    np.testing.assert_allclose(jax.jit(mapped)(NOISE, STEP_NOISE), one(NOISE, STEP_NOISE), atol=1e-5)


def test_derivatives_and_vmap():
    many, one = (functools.partial(picard, executor=e) for e in (pcm.parallel.shard_map(8), pcm.parallel.single()))
    grads = [jax.grad(lambda z, f=f: jnp.sum(f(z=z).sample ** 2))(STEP_NOISE) for f in (many, one)]
    np.testing.assert_allclose(*grads, rtol=1e-3, atol=1e-3)
    lanes = jax.vmap(lambda x: many(x).sample)(jnp.stack([NOISE, -NOISE]))
    np.testing.assert_allclose(lanes[1], one(-NOISE).sample, atol=1e-5)
    inside = jax.vmap(
        lambda x: picard(x, executor=pcm.parallel.inside("mine")).sample, axis_name="mine", axis_size=4, in_axes=None
    )
    np.testing.assert_allclose(inside(NOISE)[3], one(NOISE).sample, atol=1e-5)


def test_scans_hold_their_rows_and_inputs():
    """A carry of two leaves, one of which does not read its past, outputs, keys among the inputs, a cheaper step."""
    xs = (jnp.linspace(0.0, 1.0, 16), jax.random.split(jax.random.key(0), 16), STEP_NOISE)

    def step(carry, x):
        (state, _), (t, key, z) = carry, x
        push = jnp.tanh(state @ PARAMS["w1"] + t) @ PARAMS["w2"]
        return (state + 0.05 * push + 0.01 * z + 0.01 * jax.random.normal(key, state.shape), push), push[:, 0]

    def cheap(carry, x):
        return (carry[0] + 0.01 * x[2], carry[1])

    init = (NOISE, jnp.zeros_like(NOISE))
    for options in ({}, {"guess": cheap}, {"return_trajectory": True}):
        call = functools.partial(pcm.scan, step, init, xs, batch_axis=0, tol=1e-4, **options)
        one, out = call(), call(executor=pcm.parallel.shard_map(5))
        shown = [jax.tree.leaves((each.carry, each.ys, each.trajectory)) for each in (out, one)]
        for a, b in zip(*shown, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_array_equal(out.stats.rounds, one.stats.rounds)
