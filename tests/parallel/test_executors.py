"""n devices equal one, whoever maps the body and however the rows divide."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

import pcm_jax as pcm
from pcm_jax import switching
from tests import problems

SOLVER = pcm.solvers.ddpm(problems.VP, 12)
PARAMS, NOISE = problems.mlp_params(), problems.noise()
picard = functools.partial(
    pcm.sample_picard, problems.mlp, PARAMS, solver=SOLVER, key=jax.random.key(2), tol=1e-3, cond=jnp.arange(4)
)
EXECUTORS = {
    "pmap-8": lambda: pcm.parallel.pmap(),
    "pmap-3": lambda: pcm.parallel.pmap(3),
    "shard_map-8": lambda: pcm.parallel.shard_map(),
    "shard_map-5": lambda: pcm.parallel.shard_map(5),
    "shard_map-2d": lambda: pcm.parallel.shard_map(
        Mesh(np.asarray(jax.devices()).reshape(2, 4), ("data", "rows"), axis_types=(AxisType.Auto,) * 2),
        axis_name="rows",
    ),
}


def same(out, one):
    size = max(1.0, float(jnp.max(jnp.abs(one.sample))))
    np.testing.assert_allclose(out.sample, one.sample, rtol=0, atol=1e-5 * size)
    assert out.stats.rounds.tolist() == one.stats.rounds.tolist()
    assert out.stats.evaluations.tolist() == one.stats.evaluations.tolist()
    assert out.result.tolist() == one.result.tolist()


@pytest.fixture(scope="module", params=[None, 5])
def single(request):
    return request.param, picard(NOISE, window=request.param)


@pytest.mark.parametrize("name", EXECUTORS)
def test_many_devices_equal_one(single, name):
    window, one = single
    executor = EXECUTORS[name]()
    out = picard(NOISE, window=window, executor=executor)
    same(out, one)
    rows = window or 12
    lanes = -(-rows // executor.num_devices) * executor.num_devices
    extra = int(one.stats.rounds.max()) * (lanes - rows) * 4
    assert int(out.stats.padded_evaluations) == int(one.stats.padded_evaluations) + extra


@pytest.mark.parametrize("name", ["pmap-8", "shard_map-8"])
def test_executors_trace(name):
    one = picard(NOISE)
    many = functools.partial(picard, executor=EXECUTORS[name]())
    np.testing.assert_allclose(jax.jit(lambda x: many(x).sample + 1)(NOISE), one.sample + 1, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(lambda x: many(x).sample)(NOISE[None])[0], one.sample, atol=1e-5)
    grad = jax.grad(lambda x: jnp.sum(many(x).sample ** 2))(NOISE)
    np.testing.assert_allclose(grad, jax.grad(lambda x: jnp.sum(picard(x).sample ** 2))(NOISE), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", problems.SOLVERS)
def test_every_solver_on_three_devices(name):
    """Multistep histories, two calls a step, clips and thresholds cross the devices' borders."""
    solver = problems.SOLVERS[name]()
    sample = functools.partial(
        pcm.sample_picard, problems.mlp, PARAMS, NOISE, solver, key=problems.key_for(solver), window=7, tol=1e-3
    )
    one = sample()
    kinds = (pcm.parallel.shard_map(3), pcm.parallel.pmap(3)) if solver.multistep else (pcm.parallel.shard_map(3),)
    for executor in kinds:
        out = sample(executor=executor)
        size = max(1.0, float(jnp.max(jnp.abs(one.sample))))
        np.testing.assert_allclose(out.sample, one.sample, rtol=0, atol=3e-5 * size)
        assert out.stats.rounds.tolist() == one.stats.rounds.tolist()


def inside(x):
    out = picard(x, executor=pcm.parallel.inside("mine"), window=7)
    return out.sample, out.stats.rounds


@pytest.mark.parametrize("check_vma", [True, False])
def test_inside_somebody_elses_shard_map(check_vma):
    mesh = Mesh(np.asarray(jax.devices()), ("mine",), axis_types=(AxisType.Auto,))
    everywhere = PartitionSpec()
    mapped = jax.shard_map(inside, mesh=mesh, in_specs=everywhere, out_specs=everywhere, check_vma=check_vma)
    sample, rounds = jax.jit(mapped)(NOISE)
    one = picard(NOISE, window=7)
    np.testing.assert_allclose(sample, one.sample, atol=1e-5)
    assert rounds.tolist() == one.stats.rounds.tolist()


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("name", ["ddpm", "dpm_solver_pp"])
def test_inside_somebody_elses_data_parallel_shard_map(name, check_vma):
    """The batch is sharded by the caller, the window's rows by us; samples and gradients."""
    solver = problems.SOLVERS[name]()
    mesh = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("data", "rows"), axis_types=(AxisType.Auto,) * 2)
    z = jax.random.normal(jax.random.key(1), (len(solver), *NOISE.shape)) if solver.stochastic else None

    def sample(x, z, executor):
        out = pcm.sample_picard(problems.mlp, PARAMS, x, solver, step_noise=z, window=6, tol=1e-5, executor=executor)
        return out.sample

    expected = sample(NOISE, z, pcm.parallel.single())
    specs = (PartitionSpec("data"), None if z is None else PartitionSpec(None, "data"))
    for executor in (pcm.parallel.inside("rows"), pcm.parallel.single()):
        call = functools.partial(sample, executor=executor)
        mapped = functools.partial(
            jax.shard_map, mesh=mesh, in_specs=specs, out_specs=PartitionSpec("data"), check_vma=check_vma
        )
        np.testing.assert_allclose(jax.jit(mapped(call))(NOISE, z), expected, atol=1e-4)
    grad = jax.grad(lambda x, z: jnp.sum(sample(x, z, pcm.parallel.single()) ** 2))
    np.testing.assert_allclose(jax.jit(mapped(grad))(NOISE, z), grad(NOISE, z), rtol=1e-3, atol=1e-2)


MESH = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("data", "window"), axis_types=(AxisType.Auto,) * 2)


def spread(noise, solver=SOLVER, executor=None, model=problems.mlp, **options):
    executor = executor or pcm.parallel.shard_map(MESH)
    labels = jnp.arange(len(noise))
    options = {"cond": labels, "tol": 1e-3, "key": problems.key_for(solver)} | options
    return tuple(
        pcm.sample_picard(model, PARAMS, noise, solver, executor=each, **options)
        for each in (executor, pcm.parallel.single())
    )


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("name", ["ddpm", "ddim-threshold", "heun", "unipc"])
def test_the_batch_is_spread_over_a_data_axis(name, window):
    """Samples, noise and conditioning; the work of one device is in the counts of all."""
    solver = problems.SOLVERS[name]()
    many, one = spread(NOISE, solver, window=window, stats="full", return_trajectory=True, return_rounds=True)
    same(many, one)
    np.testing.assert_allclose(many.trajectory, one.trajectory, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(many.iterates, one.iterates, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(many.stats.accepted, one.stats.accepted)
    assert many.sample.sharding.spec[0] == "data"
    rows, rounds = window or len(solver), int(one.stats.rounds.max())
    lanes = -(-rows // 4) * 4
    assert int(many.stats.padded_evaluations) == int(one.stats.padded_evaluations) + rounds * 4 * (lanes - rows)


def test_what_each_sample_has_of_its_own_goes_with_it():
    """Labels, observations, guesses, priors about a sample; and what all share stays whole."""
    prior = pcm.priors.fit_prior(np.random.default_rng(0).normal(size=(64, 6)), rank=2)
    guess = jnp.stack([NOISE * (1 - i / 12) for i in range(13)])
    shared = pcm.Shared(jnp.linspace(0.0, 1.0, 6))

    def model(params, x, t, cond):
        label, push = cond
        return problems.mlp(params, x, t, label) + 0.1 * push.value[None]

    for options in (
        {"prior": prior.around(NOISE, 0.5)},
        {"prior": prior.pooled()},
        {"init": guess},
        {"cond": (jnp.arange(4), shared), "model": model},
        {"adapter": switching.FeatureSpace(jax.tree.map(lambda leaf: 2 * leaf, PARAMS)), "switch": switching.after(2)},
        {"preview": (8,), "max_rounds": 3},
    ):
        same(*spread(NOISE, **options))


def test_data_parallel_sampling_traces():
    def call(x, executor):
        return picard(x, executor=executor).sample

    mapped, alone = (functools.partial(call, executor=e) for e in (pcm.parallel.shard_map(MESH), pcm.parallel.single()))
    np.testing.assert_allclose(jax.jit(mapped)(NOISE), alone(NOISE), atol=1e-5)
    np.testing.assert_allclose(jax.vmap(mapped)(jnp.stack([-NOISE, NOISE]))[1], alone(NOISE), atol=1e-5)
    grads = [jax.grad(lambda x, f=f: jnp.sum(f(x) ** 2))(NOISE) for f in (mapped, alone)]
    np.testing.assert_allclose(*grads, rtol=1e-3, atol=1e-3)


@pytest.mark.fast
def test_a_device_calls_the_network_on_its_own_rows_and_samples():
    seen = []

    def watched(params, x, t, cond):
        seen.append(x.shape[0])
        return problems.mlp(params, x, t, cond)

    jax.jit(lambda x: spread(x, model=watched)[0].sample).lower(NOISE)
    assert 12 // 4 * 4 // 2 in seen and 12 // 4 * 4 not in seen


def test_data_axes_that_do_not_fit():
    shard_map = pcm.parallel.shard_map
    with pytest.raises(ValueError, match=r"a batch of 3 does not divide over the 2 devices.*data_axis=None"):
        spread(NOISE[:3])
    same(*spread(NOISE[:3], executor=shard_map(MESH, data_axis=None)))
    for arguments, message in (
        ({"data_axis": "rows"}, "not 'rows'; pass data_axis="),
        ({"axis_name": "rows"}, "not 'rows'; pass axis_name="),
        ({"axis_name": "data"}, "both be spread over 'data'; pass data_axis=None"),
    ):
        with pytest.raises(ValueError, match=message):
            shard_map(MESH, **arguments)
    assert shard_map(MESH, axis_name="data", data_axis=None).num_devices == 2
    with pytest.raises(ValueError, match=r"constrained\(mesh\), which can"):
        pcm.scan(lambda x, t: 0.9 * x + t, NOISE, jnp.ones(12), batch_axis=0, executor=shard_map(MESH))


def test_inside_vmap_and_pmap_axes():
    one = picard(NOISE, window=7).sample
    lanes = jax.vmap(inside, axis_name="mine", axis_size=4, in_axes=None)(NOISE)[0]
    np.testing.assert_allclose(lanes, jnp.broadcast_to(one, lanes.shape), atol=1e-5)
    copies = jnp.broadcast_to(NOISE, (4, *NOISE.shape))
    lanes = jax.pmap(inside, axis_name="mine", devices=jax.devices()[:4])(copies)[0]
    np.testing.assert_allclose(lanes, jnp.broadcast_to(one, lanes.shape), atol=1e-5)


def test_devices_leave_the_loop_together():
    """Samples that finish in very different rounds, one of them not at all."""

    def fragile(params, x, t, cond):
        return jnp.where((cond == 3)[:, None] & (t[:, None] < 300), jnp.inf, problems.mlp(params, x, t, cond))

    scaled = NOISE * jnp.array([0.01, 1.0, 1.0, 1.0])[:, None]
    sample = functools.partial(picard.func, fragile, *picard.args[1:], scaled, **picard.keywords)
    one, many = sample(), sample(executor=pcm.parallel.pmap())
    assert many.result.tolist() == one.result.tolist() == [0, 0, 0, 2]
    np.testing.assert_allclose(many.sample[:3], one.sample[:3], atol=1e-5)
