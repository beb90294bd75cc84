"""Static mistakes are ValueErrors that name the remedy, before the network is traced by a sampler."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from tests import problems

SOLVER = pcm.solvers.ddim(problems.VP, 10)
PARAMS, NOISE = problems.mlp_params(), problems.noise()
picard = functools.partial(pcm.sample_picard, problems.mlp, PARAMS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, r"window must be a whole number, 1\.\.10 .*window=None is all"),
        ({"window": 11}, r"window must be a whole number, 1\.\.10"),
        ({"window": 2.5}, "window must be a whole number"),
        ({"window": True}, "window must be a whole number"),
        ({"tol": -1e-3}, "tol must be at least 0"),
        ({"tol": float("nan")}, "tol must be at least 0"),
        ({"tol": float("inf")}, "tol must be at least 0 and finite"),
        ({"tol": "tight"}, "tol must be one number"),
        ({"tol": np.zeros(4)}, "tol must be one number"),
        ({"window": np.array([4])}, "window must be a whole number"),
        ({"executor": pcm.parallel.pmap}, "executor must be an object .*mind the parentheses"),
        ({"executor": pcm.parallel.inside("nowhere")}, "there is none"),
        ({"certificate": pcm.certificates.defect_sum("l2")}, "norm must be a function"),
        (
            {"certificate": pcm.certificates.defect_sum(lambda change, variance: jnp.max(change))},
            r"norm must return \[W, B\]",
        ),
        ({"key": 0}, "key must be one PRNG key"),
        ({"key": jax.random.split(jax.random.key(0), 4)}, "split a batch of keys with jax.vmap"),
        ({"max_rounds": 0}, r"max_rounds must be a whole number, 1\.\.1000 \(10 always suffice"),
        ({"init": np.zeros((10, 4, 6))}, r"init must be a trajectory of shape \(11, 4, 6\)"),
        ({"linearization": pcm.linearization.secant}, "mind the parentheses"),
        ({"cond": jnp.zeros(3)}, "leading axis must be the batch of 4"),
        ({"cond": {"label": jnp.zeros(())}}, r"cond\['label'\] has shape \(\)"),
    ],
)
def test_options(options, message):
    picard(NOISE, SOLVER, window=10, tol=0.0, max_rounds=1)  # the accepted neighbour
    with pytest.raises(ValueError, match=message):
        picard(NOISE, SOLVER, **options)


@pytest.mark.parametrize("sampler", [pcm.sample_sequential, pcm.sample_picard])
@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (np.zeros((4, 6), np.int32), "noise must be floating point .* got int32"),
        (np.zeros((6,), np.float32), r"add a batch axis with x\[None\]"),
        (np.zeros((0, 6), np.float32), "no empty axis"),
        ([[0.0, 1.0]], "noise must be an array"),
    ],
)
def test_noise(sampler, noise, message):
    with pytest.raises(ValueError, match=message):
        sampler(problems.mlp, PARAMS, noise, SOLVER)


def wide(params, x, t, cond):
    return jnp.concatenate([x, x], axis=-1)


def half(params, x, t, cond):
    return x.astype(jnp.float16)


def pair(params, x, t, cond):
    return x, x


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, params, x, t, cond):
        return x


@pytest.mark.parametrize("sampler", [pcm.sample_sequential, pcm.sample_picard])
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (wide, r"returned \(4, 12\) for an input of \(4, 6\)"),
        (half, r"returned float16 for an input of float32; end it with \.astype\(x\.dtype\)"),
        (pair, "returned tuple for an input"),
        (Unhashable(), "must be a hashable function"),
    ],
)
def test_networks(sampler, model, message):
    with pytest.raises(ValueError, match=message):
        sampler(model, PARAMS, NOISE, SOLVER)


def test_not_a_solver():
    with pytest.raises(ValueError, match=r"must be a pcm_jax.solvers table"):
        picard(NOISE, "ddim")


def test_stochastic_solvers_want_one_source_of_noise():
    solver = pcm.solvers.ddpm(problems.VP, 10)
    z = jnp.zeros((10, 4, 6))
    for sampler in (pcm.sample_sequential, pcm.sample_picard):
        sampler(problems.mlp, PARAMS, NOISE, solver, step_noise=z)
        with pytest.raises(ValueError, match=r"pass either key= or step_noise="):
            sampler(problems.mlp, PARAMS, NOISE, solver)
        with pytest.raises(ValueError, match=r"pass either key= or step_noise="):
            sampler(problems.mlp, PARAMS, NOISE, solver, key=jax.random.key(0), step_noise=z)
        with pytest.raises(ValueError, match=r"step_noise must have shape \(10, 4, 6\)"):
            sampler(problems.mlp, PARAMS, NOISE, solver, step_noise=z[:9])


def test_throw_needs_concrete_results():
    with pytest.raises(ValueError, match="throw=True needs concrete results"):
        jax.jit(lambda x: picard(x, SOLVER, throw=True).sample)(NOISE)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pcm.solvers.ddim(problems.VP, 0), "num_steps must be a whole number of at least 1"),
        (lambda: pcm.solvers.ddim(problems.VP, 1.5), "num_steps must be a whole number of at least 1"),
        (lambda: pcm.solvers.ddim(problems.VP, 1001), r"num_steps must lie in 1\.\.1000"),
        (lambda: pcm.solvers.ddim(problems.VP, 10, eta=-1), "eta must be at least 0"),
        (
            lambda: pcm.solvers.ddim(problems.VP, 10, prediction="eps"),
            "unknown prediction 'eps'; choose one of epsilon",
        ),
        (lambda: pcm.solvers.ddim(problems.VP, 10, spacing="even"), "unknown spacing 'even'"),
        (lambda: pcm.solvers.ddim(problems.VP, 10, offset=200), "offset 200 moves the grid outside"),
        (lambda: pcm.solvers.ddim(problems.VP, 10, clip=0.0), "clip must be a positive bound"),
        (lambda: pcm.solvers.ddim(problems.VP, 3, spacing=[1, 2, 3]), "strictly decreasing"),
        (lambda: pcm.solvers.ddim(problems.FLOW, 10), "use prediction='velocity'"),
        (lambda: pcm.solvers.euler(problems.VP, 10), "on a VP schedule use ddim"),
        (lambda: pcm.solvers.ddpm(problems.VP, 10, variance="learned"), "choose fixed_small or fixed_large"),
        (lambda: pcm.solvers.by_name("lcm", problems.VP, 10), "unknown solver 'lcm'; choose one of ddim"),
        (lambda: pcm.solvers.ddim(problems.EDM, 10, spacing="leading"), "EDM has the karras grid"),
        (lambda: pcm.linearization.secant(1.0, 0.5), "0 <= low < high"),
        (lambda: pcm.solvers.ddim(problems.VP, 3, spacing=[5000, 2, 1]), r"must lie in 0\.\.999"),
        (lambda: pcm.solvers.ddim(problems.VP, 10, clip=True), "clip must be a positive bound"),
        (lambda: pcm.solvers.euler(problems.FLOW, 10, offset=1), "leave it out here"),
        (lambda: pcm.solvers.dpm_solver_pp(problems.VP, 1000), "one point more than its 1000 steps"),
        (lambda: pcm.schedules.edm(sigma_min=3.0, sigma_max=1.0), "0 < sigma_min < sigma_max"),
        (lambda: pcm.parallel.pmap(2.0), r"2\.0 devices asked for"),
        (lambda: pcm.parallel.pmap(0), r"0 devices asked for.*choose 1\.\.8"),
        (lambda: pcm.parallel.shard_map(9), "9 devices asked for"),
    ],
)
def test_tables_and_executors(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def _norm_times(k):
    return lambda change, variance: k * jnp.sqrt(jnp.mean(change**2, axis=tuple(range(2, change.ndim))))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("norm", lambda k: {"certificate": pcm.certificates.defect_sum(_norm_times(k))}),
        ("norm", lambda k: {"certificate": pcm.certificates.last_change(_norm_times(k))}),
        (
            "switch",
            lambda k: {
                "adapter": pcm.switching.FeatureSpace(jnp.float32(0.4)),
                "switch": lambda see: jnp.clip(k * jnp.ones_like(see.residual), 0, 1),
            },
        ),
    ],
    ids=["defect_sum", "last_change", "switch"],
)
def test_a_function_that_closes_over_a_traced_value_is_named(name, options):
    """A compiled sampler is kept by its norm and switch: a tracer in them could not be kept."""
    solver = pcm.solvers.ddim(pcm.schedules.cosine_vp(), 6, prediction="data")
    noise = jax.random.normal(jax.random.key(0), (2, 4))

    def run(k):
        call = (lambda params, x, t, cond: params * x, jnp.float32(0.5), noise, solver)
        return pcm.sample_picard(*call, **options(k)).stats.rounds

    with pytest.raises(ValueError, match=f"^{name} uses a value that jax.jit.*outside of the traced function"):
        jax.jit(run)(jnp.float32(0.5))
    assert np.all(run(0.5) >= 1), "the same with a number"
