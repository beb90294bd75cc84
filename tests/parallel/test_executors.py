"""n devices equal one, whoever maps the body and however the rows divide."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

import pcm_jax as pcm
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
    np.testing.assert_allclose(out.sample, one.sample, rtol=0, atol=1e-5)
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
