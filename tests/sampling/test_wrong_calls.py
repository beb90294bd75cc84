"""Calls of the samplers that were answered by a bare traceback, or accepted in silence: each has a named error now."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.sampling.preview import MeasuredRows
from tests import problems

SOLVER = pcm.solvers.ddim(problems.VP, 10)
NOISY = pcm.solvers.ddpm(problems.VP, 10)
PARAMS, NOISE = problems.mlp_params(), problems.noise()
Z = np.zeros((10, 4, 6), np.float32)
picard = functools.partial(pcm.sample_picard, problems.mlp, PARAMS, NOISE)


@dataclasses.dataclass(frozen=True)
class Slope:
    """A linearization that returns what it is told to."""

    value: Any
    needs_history: bool = False

    def slope(self, rows, x, step, before, first):
        return self.value


class NoSlope:
    slope = 3
    needs_history = False


class Unhashable(NoSlope):
    __hash__ = None  # type: ignore[assignment]

    def slope(self, rows, x, step, before, first):
        return jnp.ones(x.shape[:2])


def norm(function):
    return {"certificate": pcm.certificates.defect_sum(function)}


def rms(change, variance):
    return jnp.sqrt(jnp.mean(change**2, axis=-1))


def adapted(switch, params=PARAMS, **options):
    return {"adapter": pcm.switching.FeatureSpace(params), "switch": switch} | options


def branches(see):
    return jnp.ones(see.row.shape) if see.round > 2 else jnp.zeros(see.row.shape)


WIDER = jax.tree.map(lambda leaf: jnp.ones((*leaf.shape[:-1], 5 + leaf.shape[-1])), PARAMS)

OPTIONS = [
    ({"max_rounds": 10**9}, r"max_rounds must be a whole number, 1\.\.1000 \(10 always suffice"),
    ({"max_rounds": 2**31}, "max_rounds must be a whole number"),
    ({"max_rounds": 10**40}, "max_rounds must .* got a number of more than 30 digits"),
    ({"max_rounds": True}, "max_rounds must be a whole number"),
    ({"tol": 10**400}, "tol must be at least 0 and finite"),
    ({"tol": 1j}, "tol must be at least 0 and finite .* got 1j"),
    ({"tol": None}, "tol must be at least 0 and finite .* got None"),
    ({"tol": False}, "tol must be one number"),
    ({"key": np.zeros(5, np.uint32)}, "key must be one PRNG key"),
    ({"key": np.zeros(3, np.uint32)}, "key must be one PRNG key"),
    ({"init": np.full((11, 4, 6), "a")}, "init must be floating point"),
    ({"init": np.zeros((11, 4, 6), np.complex64)}, "init must be floating point .* got complex64"),
    ({"step_noise": np.full((10, 4, 6), "a")}, "step_noise must be floating point"),
    ({"step_noise": Z.astype(np.complex64)}, "step_noise must be floating point .* got complex64"),
    ({"step_noise": Z.astype(np.int32)}, "step_noise must be floating point .* got int32"),
    ({"return_rounds": [1]}, r"return_rounds must be True or False, got \[1\]"),
    ({"return_trajectory": np.ones(2)}, "return_trajectory must be True or False, got float64"),
    ({"throw": "no"}, "throw must be True or False, got 'no'"),
    ({"throw": 0}, "throw must be True or False, got 0"),
    ({"preview": (row for row in (1, 2))}, "preview must hold a row for each number of rounds"),
    ({"preview": {3: 1, 4: 2}}, "preview must hold a row for each number of rounds"),
    ({"preview": {3, 4}}, "preview must hold a row for each number of rounds"),
    ({"preview": "98"}, "preview must hold a row for each number of rounds"),
    ({"preview": (3, 11)}, r"preview must be a whole number, 0\.\.10"),
    ({"preview": MeasuredRows((40, 44, 50), "DDIM-50", 50)}, r"preview must be a whole number, 0\.\.10"),
    ({"preview": MeasuredRows((4, 5), "DDIM-5", 5)}, "measured on DDIM-5 of 5 rows, this is ddim-10 of 10; measure"),
    ({"preview": MeasuredRows((4, 10), "DDPM-10", 10)}, "measured on DDPM-10 of 10 rows, this is ddim-10 of 10"),
    ({"linearization": NoSlope()}, "linearization must be an object such as"),
    ({"linearization": Unhashable()}, "linearization must be hashable, with needs_history"),
    ({"linearization": Slope(1.0)}, r"slope returned \(\); a slope is \[W, B\], here \(10, 4\)"),
    ({"linearization": Slope(np.ones(10))}, "linearization must be hashable, with needs_history"),
    ({"linearization": Slope("a")}, r"linearization.slope on states .* failed \(TypeError"),
    (norm(lambda change: change[..., 0]), r"norm\(change .* failed \(TypeError: .*a norm takes \(change \[W, B"),
    (norm(lambda change, variance: 1 / 0), r"norm\(change .* failed \(ZeroDivisionError"),
    (norm(lambda change, variance: rms(change, variance) + 0j), "norm must return floats, got complex64"),
    (norm(lambda change, variance: -rms(change, variance)), "norm returned -.*; a residual is at least 0"),
    (norm(lambda change, variance: jnp.mean(change, axis=-1)), "a residual is at least 0"),
    (norm(lambda change, variance: rms(change, variance) * jnp.nan), "norm returned nan"),
    (adapted(branches), r"switch\(see\) failed \(TracerBoolConversionError.*without branching on their values"),
    (adapted(lambda see: see.foo), r"switch\(see\) failed \(AttributeError"),
    (adapted(lambda see: jnp.zeros(see.row.shape) + 0j), "switch must return real numbers, got complex64"),
    (adapted(pcm.switching.calibrated(np.ones((2, 7)))), "measured on a solver of 7 rows, this one has 10"),
    (
        adapted(lambda see: jnp.where(see.round > 15, -1.0, 0.0) * jnp.ones(see.row.shape)),
        "switch returned lambda outside .0, 1. in round 16: -1",
    ),
    (
        adapted(lambda see: jnp.where(see.round > 12, jnp.nan, 1.0) * jnp.ones(see.row.shape)),
        "switch returned lambda outside .0, 1. in round 13: nan",
    ),
    (adapted(pcm.switching.after(1), None), r"adapter.predict on x float32\(4, 6\) failed \(TypeError"),
    (adapted(pcm.switching.after(1), WIDER), r"adapter.predict on x .* failed .*parameters of this very network"),
    (adapted(pcm.switching.after(1), {"w1": "a"}), "adapter, params and cond must be pytrees of arrays"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_options_of_the_parallel_sampler(options, message):
    with pytest.raises(ValueError, match=message):
        picard(SOLVER, **options)


def test_their_neighbours_are_accepted():
    out = picard(
        SOLVER, max_rounds=1000, tol=np.float32(0.1), preview=np.array([3, 10]), throw=np.bool_(False), stats="full"
    )
    assert out.stats.bounds.shape == (1000, 4)
    picard(SOLVER, preview=MeasuredRows((3, 10), "DDIM-10", 10), max_rounds=2)
    picard(SOLVER, preview=MeasuredRows((3, 10), "", 10), max_rounds=2)
    picard(SOLVER, linearization=Slope(np.ones((10, 4), np.float32).view(HashableArray)))
    picard(SOLVER, **adapted(pcm.switching.calibrated(np.ones((2, 10)))))


class HashableArray(np.ndarray):
    """For a linearization that holds its slopes."""

    def __hash__(self):
        return hash(self.tobytes())


def test_a_norm_that_turns_negative_on_the_way_certifies_nothing():
    """What no probe can see: the loop itself counts a negative residual as none at all."""

    def small_is_negative(change, variance):
        size = rms(change, variance)
        return jnp.where((size > 1e-9) & (size < 0.05), -size, size)

    for certificate in (pcm.certificates.defect_sum, pcm.certificates.last_change):
        honest = picard(SOLVER, tol=1e-4, certificate=certificate(rms))
        out = picard(SOLVER, tol=1e-4, certificate=certificate(small_is_negative))
        assert np.all(np.asarray(out.stats.rounds) >= np.asarray(honest.stats.rounds))
        exact = pcm.sample_sequential(problems.mlp, PARAMS, NOISE, SOLVER).sample
        error = np.sqrt(np.mean(np.square(np.asarray(out.sample) - exact), axis=1))
        assert np.all(error[np.asarray(out.converged)] <= 1e-3)


class Module(nn.Module):
    @nn.compact
    def __call__(self, params, x, t, cond):
        return nn.Dense(6)(x)


def three_arguments(params, x, t):
    return x


def concrete(params, x, t, cond):
    return x * float(x.sum())


def with_numpy(params, x, t, cond):
    return np.tanh(x)


def python_if(params, x, t, cond):
    return x if x.sum() > 0 else -x


def raises(params, x, t, cond):
    return x / (1 // 0)


def needs_cond(params, x, t, cond):
    return x * cond["scale"]


REMEDY = r"failed \({}: .*function \(params, x, t, cond\) -> prediction that JAX can trace"
NETWORKS = [
    (three_arguments, PARAMS, REMEDY.format("TypeError")),
    (concrete, PARAMS, REMEDY.format("ConcretizationTypeError")),
    (with_numpy, PARAMS, REMEDY.format("TracerArrayConversionError")),
    (python_if, PARAMS, REMEDY.format("TracerBoolConversionError")),
    (raises, PARAMS, REMEDY.format("ZeroDivisionError")),
    (needs_cond, PARAMS, r"cond None\) failed \(TypeError"),
    (Module(), PARAMS, REMEDY.format("CallCompactUnboundModuleError")),
    (problems.mlp, None, r"model_fn\(params, x float32\(4, 6\), t float32\(4,\), cond None\) failed"),
    (problems.mlp, [1.0], REMEDY.format("TypeError")),
    (problems.mlp, WIDER, REMEDY.format("TypeError")),
]


@pytest.mark.parametrize("sampler", [pcm.sample_sequential, pcm.sample_picard])
@pytest.mark.parametrize(("model", "params", "message"), NETWORKS)
def test_networks(sampler, model, params, message):
    with pytest.raises(ValueError, match=message):
        sampler(model, params, NOISE, SOLVER)


NOISES = [
    (np.zeros((4, 6), ml_dtypes.float8_e4m3fn), "noise must be floating point .* got float8_e4m3fn; draw it"),
    (np.zeros((4, 6), np.longdouble), "noise must be floating point .* got float128"),
    (np.ma.masked_array(np.zeros((4, 6), np.float32)), "got masked float32"),
    (np.full((4, 6), "a", object), "noise must be floating point .* got object"),
    (np.zeros((4, 6), np.complex64), "noise must be floating point .* got complex64"),
    (np.zeros((4, 7), np.float32), r"model_fn\(params, x float32\(4, 7\)"),
]


@pytest.mark.parametrize("sampler", [pcm.sample_sequential, pcm.sample_picard])
@pytest.mark.parametrize(("noise", "message"), NOISES)
def test_noise(sampler, noise, message):
    with pytest.raises(ValueError, match=message):
        sampler(problems.mlp, PARAMS, noise, SOLVER)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (lambda data: 1.0, r"clip returned float32\(\) for data float32\(4, 6\)"),
        (lambda data: data.sum(), r"clip returned float32\(\) for data float32\(4, 6\)"),
        (lambda data: data.no, r"clip\(data float32\(4, 6\)\) failed \(AttributeError"),
    ],
)
def test_clips_that_are_functions(clip, message):
    for sampler in (pcm.sample_sequential, pcm.sample_picard):
        with pytest.raises(ValueError, match=message):
            sampler(problems.mlp, PARAMS, NOISE, pcm.solvers.ddim(problems.VP, 10, clip=clip))


@pytest.mark.fast
def test_guidance_and_guesses():
    labels = jnp.zeros(4, jnp.int32)
    guess = pcm.guess.from_data
    for call, message in (
        (lambda: pcm.guidance.classifier_free(None, 2.0, 3), "model_fn must be a function"),
        (lambda: pcm.guidance.classifier_free(problems.mlp, np.nan, 3), "scale must be a finite number"),
        (lambda: pcm.guidance.classifier_free(problems.mlp, "a", 3), "scale must be a finite number"),
        (lambda: pcm.guidance.classifier_free(problems.mlp, 2.0, np.zeros(4)), "null_cond must be a number"),
        (lambda: pcm.guidance.classifier_free(problems.mlp, 2.0, "a"), "null_cond must be a number"),
        (lambda: pcm.guidance.classifier_free(problems.mlp, 2.0, {"a": labels}), "null_cond must be a number"),
        (lambda: pcm.guidance.prompt_guided(problems.mlp, np.inf), "scale must be a finite number"),
        (lambda: pcm.guidance.prompts("a cat", "a dog"), "must be arrays .*text_embeddings"),
        (lambda: pcm.guidance.prompts([1.0], [2.0]), "must be arrays"),
        (lambda: pcm.guidance.prompts(np.zeros((2, 3)), np.zeros(())), "give one row for each sample"),
        (lambda: guess(None, NOISE, NOISE), "solver must be a pcm_jax.solvers table, got None"),
        (lambda: guess(SOLVER, [1.0], NOISE), "noise must be floating point"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
