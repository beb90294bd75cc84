"""Programs that GSPMD partitions: one device's samples, the user's shardings kept, and no transfer that need not be."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import pcm_jax as pcm
from experiments.bench import programs
from pcm_jax import switching
from tests import problems

MESH = Mesh(np.asarray(jax.devices()).reshape(2, 2, 2), ("data", "window", "model"), axis_types=(AxisType.Auto,) * 3)
SOLVER = pcm.solvers.ddpm(problems.VP, 12)
PARAMS, NOISE = problems.mlp_params(), problems.noise()
TENSOR = {"w1": (None, "model"), "w2": ("model", None), "time": ("model",)}
CONSTRAINED = pcm.parallel.constrained(MESH)


def sharded(params, layout=TENSOR):
    return {
        name: jax.device_put(leaf, NamedSharding(MESH, PartitionSpec(*layout[name]))) for name, leaf in params.items()
    }


def picard(params, noise, model=problems.mlp, solver=SOLVER, **options):
    key = problems.key_for(solver)
    return pcm.sample_picard(model, params, noise, solver, key=key, tol=1e-3, cond=jnp.arange(len(noise)), **options)


def round_of(function, *args):
    """Collectives of one round, those of single numbers left out."""
    text = jax.jit(function).lower(*args).compile().as_text()
    return [each for each in programs.in_loop(text) if each.size > 4]


def same(out, one, atol=1e-5):
    np.testing.assert_allclose(out.sample, one.sample, rtol=0, atol=atol)
    for name in ("rounds", "evaluations"):
        np.testing.assert_array_equal(getattr(out.stats, name), getattr(one.stats, name))
    np.testing.assert_array_equal(out.result, one.result)


@pytest.mark.parametrize("rows", [("data", "window"), (None, ("data", "window")), (("data", "window"), None)], ids=str)
@pytest.mark.parametrize("window", [None, 5])
def test_the_samples_of_one_device(window, rows):
    options = {"window": window, "return_trajectory": True, "return_rounds": True}
    one = picard(PARAMS, NOISE, **options)
    out = picard(sharded(PARAMS), NOISE, executor=pcm.parallel.constrained(MESH, rows), **options)
    same(out, one)
    np.testing.assert_allclose(out.trajectory, one.trajectory, atol=1e-5)
    np.testing.assert_allclose(out.iterates, one.iterates, atol=1e-4)


@pytest.mark.parametrize("name", ["dpm_solver_pp", "heun", "unipc", "ddim-threshold"])
def test_solvers(name):
    solver = problems.SOLVERS[name]()
    run = functools.partial(picard, solver=solver, window=7)
    one = run(PARAMS, NOISE)
    size = max(1.0, float(jnp.max(jnp.abs(one.sample))))
    same(run(sharded(PARAMS), NOISE, executor=CONSTRAINED), one, 3e-5 * size)


@pytest.mark.parametrize("window", [None, 6])
def test_a_round_gathers_its_predictions_and_sums_the_tensor_parallel_layer(window):
    """And nothing else: no parameter, no state, no network input travels."""
    run = functools.partial(picard, window=window, executor=CONSTRAINED)
    found = round_of(run, sharded(PARAMS), NOISE)
    rows = window or 12
    assert collections.Counter(each.kind for each in found) == {"all-gather": 1, "all-reduce": 1}
    shapes = {each.kind: each.shapes for each in found}
    assert shapes["all-gather"] == (("f32", (rows, 2, 6)),)  # all rows of the device's half of the batch
    assert shapes["all-reduce"] == (("f32", (rows // 2 * 2, 6)),)  # a layer's sums on a quarter of the W B rows


def test_guidance_and_adapters():
    guided = pcm.guidance.classifier_free(problems.mlp, 2.0, 0)
    run = functools.partial(picard, model=guided)
    same(run(sharded(PARAMS), NOISE, executor=CONSTRAINED), run(PARAMS, NOISE), 2e-5)
    # Guidance puts both calls' rows one after the other, so that inputs and predictions travel; parameters never do.
    for each in round_of(functools.partial(run, executor=CONSTRAINED), sharded(PARAMS), NOISE):
        assert not {(6, 24), (24, 6), (24,)} & {shape for _, shape in each.shapes if each.kind == "all-gather"}

    def adapted(params, noise, **options):
        wrong = switching.FeatureSpace(jax.tree.map(lambda leaf: 3.0 * leaf + 0.3, params))
        return picard(params, noise, adapter=wrong, switch=switching.after(2), **options)

    same(adapted(sharded(PARAMS), NOISE, executor=CONSTRAINED), adapted(PARAMS, NOISE), 2e-5)
    found = round_of(functools.partial(adapted, executor=CONSTRAINED), sharded(PARAMS), NOISE)
    gathered = [each.shapes for each in found if each.kind == "all-gather"]
    assert gathered == 2 * [(("f32", (12, 2, 6)),)]  # one in rounds with the adapter, one in rounds without it
    assert {each.kind for each in found} == {"all-gather", "all-reduce"}


def test_fully_sharded_parameters_are_gathered_by_the_network_alone():
    """The states' part of a round is the same one all-gather; what the parameters need XLA adds inside the network."""
    params = sharded(PARAMS, {"w1": ("data",), "w2": ("data",), "time": ("data",)})
    same(picard(params, NOISE, executor=CONSTRAINED), picard(PARAMS, NOISE))
    text = jax.jit(functools.partial(picard, executor=CONSTRAINED)).lower(params, NOISE).compile().as_text()
    held = [shape for _, shape in programs.carried(text)]
    assert (6, 24) not in held and (24, 6) not in held, "whole parameters are held between rounds"


def test_scan_over_a_mesh():
    times = jnp.linspace(0.0, 1.0, 12)

    def call(params, x, **options):
        def step(x, t):
            return x + 0.05 * (jnp.tanh(x @ params["w1"] + t) @ params["w2"])

        return pcm.scan(step, x, times, batch_axis=0, tol=1e-3, **options)

    one = call(PARAMS, NOISE)
    for window in (12, 7):
        out = call(sharded(PARAMS), NOISE, executor=CONSTRAINED, window=window)
        np.testing.assert_allclose(out.carry, one.carry, atol=1e-3 if window < 12 else 1e-5)
    found = round_of(functools.partial(call, executor=CONSTRAINED), sharded(PARAMS), NOISE)
    assert sorted(each.kind for each in found) == ["all-gather", "all-reduce"]


def test_transformations():
    def total(params, x, **options):
        return jnp.sum(picard(params, x, **options).sample ** 2)

    expected = jax.grad(total, argnums=(0, 1))(PARAMS, NOISE)
    found = jax.jit(jax.grad(functools.partial(total, executor=CONSTRAINED), argnums=(0, 1)))(sharded(PARAMS), NOISE)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2)
    assert found[0]["w1"].sharding.spec == PartitionSpec(None, "model")
    lanes = jax.vmap(lambda x: picard(sharded(PARAMS), x, executor=CONSTRAINED).sample)(jnp.stack([NOISE, -NOISE]))
    np.testing.assert_allclose(lanes[1], picard(PARAMS, -NOISE).sample, atol=1e-5)


@pytest.mark.fast
def test_mistakes():
    explicit = Mesh(np.asarray(jax.devices()).reshape(2, 4), ("data", "window"), axis_types=(AxisType.Explicit,) * 2)
    for arguments, message in (
        ((3,), "must be a jax.sharding.Mesh"),
        ((MESH, "window"), "two entries"),
        ((MESH, ("data",)), r"\(None, 'window'\)"),
        ((MESH, ("data", "rows")), "mesh has axes .*not 'rows'"),
        ((MESH, ("data", "data")), "names one twice"),
        ((explicit,), "not of type Auto.*make_mesh"),
    ):
        with pytest.raises(ValueError, match=message):
            pcm.parallel.constrained(*arguments)
    with pytest.raises(ValueError, match=r"a batch of 3 does not divide.*pad noise and cond to 4 samples"):
        picard(PARAMS, NOISE[:3], executor=CONSTRAINED)
    single = picard(PARAMS, NOISE[:3])
    same(picard(PARAMS, NOISE[:3], executor=pcm.parallel.constrained(MESH, (None, ("data", "window")))), single)
