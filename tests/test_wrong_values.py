"""Constructors refuse what nothing can mean: negative, zero, NaN, inf, text, a bool for an int, reversed ranges."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax import checks
from pcm_jax.data.robots import Normalizer
from pcm_jax.metrics import Moments
from tests import problems

pytestmark = pytest.mark.fast

NAN, INF = math.nan, math.inf
VP, FLOW = problems.VP, problems.FLOW
ddim = pcm.solvers.ddim
KERNEL = {"dense": {"kernel": jnp.ones((4, 6))}}


def each(build, values, message):
    """One line of the table for every value."""
    return [(lambda value=value: build(value), message) for value in values]


NOT_POSITIVE = (0, -1.0, NAN, INF, "a", None, True, 1j, [1.0])
NOT_WHOLE = (0, -1, 2.5, NAN, "a", None, True, np.ones(2))

TABLE = [
    *each(lambda v: pcm.schedules.linear_vp(v), NOT_WHOLE, "num_train_steps must be a whole number of at least 1"),
    *each(lambda v: pcm.schedules.cosine_vp(v), NOT_WHOLE, "num_train_steps must be a whole number of at least 1"),
    *each(lambda v: pcm.schedules.scaled_linear_vp(v), NOT_WHOLE, "num_train_steps must be a whole number"),
    *each(lambda v: pcm.schedules.linear_vp(beta_end=v), (1.0, 1.5, *NOT_POSITIVE), "beta_end must be a number"),
    *each(lambda v: pcm.schedules.linear_vp(beta_start=v), (1.5, *NOT_POSITIVE), "beta_start must be a number"),
    *each(lambda v: pcm.schedules.scaled_linear_vp(beta_start=v), (-1e-4, NAN), "beta_start must be a number in"),
    (lambda: pcm.schedules.linear_vp(100, 0.02, 1e-4), "beta_start must be at most beta_end, got 0.02 and 0.0001"),
    *each(lambda v: pcm.schedules.cosine_vp(10, v), (1.5, *NOT_POSITIVE), "max_beta must be a number in"),
    (lambda: pcm.schedules.linear_vp(final_alpha_one="no"), "final_alpha_one must be True or False"),
    *each(
        pcm.schedules.VP,
        ((), (0.5, 0.9), (1.2, 0.5), (0.9, NAN), (0.9, -0.1), ("a",), ((0.9,), (0.8,)), None),
        r"alphas_cumprod must be floats in \[0, 1\] that never rise",
    ),
    *each(lambda v: pcm.schedules.rectified_flow(v), NOT_POSITIVE, "shift must be a finite number above 0"),
    *each(lambda v: pcm.schedules.rectified_flow(1.0, v), NOT_WHOLE, "num_train_steps must be a whole number"),
    *each(lambda v: pcm.schedules.edm(rho=v), NOT_POSITIVE, "rho must be a finite number above 0"),
    *each(lambda v: pcm.schedules.edm(sigma_max=v), NOT_POSITIVE, "sigma_max must be a finite number above 0"),
    *each(lambda v: pcm.schedules.edm(sigma_data=v), NOT_POSITIVE, "sigma_data must be a finite number above 0"),
    *each(lambda v: pcm.schedules.edm(log_std=v), NOT_POSITIVE, "log_std must be a finite number above 0"),
    *each(lambda v: pcm.schedules.edm(log_mean=v), (NAN, INF, "a"), "log_mean must be a finite number"),
    *each(lambda v: FLOW.times(v, "trailing"), NOT_WHOLE, "num_steps must be a whole number"),
    *each(lambda v: problems.EDM.times(v, "karras"), NOT_WHOLE, "num_steps must be a whole number"),
    *each(lambda v: VP.times(v, "leading"), NOT_WHOLE, "num_steps must be a whole number"),
    *each(lambda v: ddim(VP, v), NOT_WHOLE, "num_steps must be a whole number of at least 1"),
    *each(lambda v: ddim(VP, 10, eta=v), (-1, NAN, INF, "a", None, True), "eta must be at least 0 and finite"),
    *each(lambda v: ddim(VP, 10, offset=v), ("a", -1, 0.5, None, True), "offset must be a whole number of at least 0"),
    *each(lambda v: ddim(VP, 10, clip=v), (0, -1, NAN, INF, "a", (1, 2), True), "clip must be a positive bound"),
    *each(lambda v: ddim(v, 10), (None, "linear", math.sin, pcm.schedules.VP), "schedule must be an object such as"),
    *each(lambda v: ddim(VP, 2, spacing=v), ([1.0, NAN], ["a", "b"], [1, 5], 7.0), "explicit times|spacing must be"),
    *each(lambda v: pcm.solvers.dynamic_threshold(v), (0, 1.5, NAN, "a"), "ratio must be a number in"),
    *each(lambda v: pcm.solvers.dynamic_threshold(0.9, v), (0.5, NAN, INF, "a"), "max_value must be at least 1"),
    (lambda: pcm.solvers.by_name("ddim", VP, 10, foo=1), "ddim has no option 'foo'; it has eta, prediction, clip"),
    *each(lambda v: pcm.linearization.secant(v), (NAN, "a", None, -0.1), "low must be|0 <= low < high"),
    *each(lambda v: pcm.linearization.secant(0.0, v), (NAN, INF, "a", None, 0.0), "high must be|0 <= low < high"),
    *each(lambda v: pcm.switching.linear(v, 5), NOT_POSITIVE, "the stiffness of linear"),
    *each(lambda v: pcm.switching.linear(1.0, v), NOT_WHOLE, r"linear\(\) takes a whole number of rounds"),
    *each(lambda v: pcm.switching.after(v), (-1, 2.5, "a", None, True), r"after\(\) takes a whole number of rounds"),
    *each(lambda v: pcm.switching.frontier(v), NOT_POSITIVE, "rows_per_round of frontier"),
    *each(lambda v: pcm.switching.adaptive(v), NOT_POSITIVE, "the threshold of adaptive"),
    *each(
        pcm.switching.calibrated,
        (np.ones(3), np.full((2, 3), NAN), -np.ones((2, 3)), "a", None),
        "a calibrated table is",
    ),
    *each(lambda v: pcm.lora.init(KERNEL, v, jax.random.key(0)), NOT_WHOLE, "rank must be a whole number"),
    *each(lambda v: pcm.lora.init(KERNEL, 2, v), (0, None, np.zeros(3, np.uint32)), "key must be one PRNG key"),
    *each(
        lambda v: pcm.lora.init(KERNEL, 2, jax.random.key(0), alpha=v),
        (0, -1.0, NAN, INF, "a", True),
        "alpha must be a finite number above 0",
    ),
    *each(
        lambda v: pcm.lora.init(KERNEL, 2, jax.random.key(0), select=v),
        (1, "("),
        "select must be a regular expression or a predicate",
    ),
    (
        lambda: pcm.lora.init({"kernel": jnp.ones((4, 4), jnp.int32)}, 2, jax.random.key(0)),
        "kernel is int32 .*LoRA adapts floats",
    ),
    (lambda: pcm.lora.merge(KERNEL, None), "a LoRA such as pcm_jax.lora.init makes is wanted, got NoneType"),
    *each(
        lambda v: pcm.lora.merge(KERNEL, pcm.lora.init(KERNEL, 2, jax.random.key(0)), v),
        (NAN, "a", None, np.ones(2)),
        "strength must be a finite number",
    ),
    (lambda: Normalizer([0.0], [1.0]), "low must be an array"),
    (lambda: Normalizer(np.zeros(2), np.zeros(3)), "low and high must be two arrays"),
    (lambda: Normalizer(np.ones(2), np.zeros(2)), "with low <= high everywhere"),
    (lambda: Normalizer(np.full(2, NAN), np.zeros(2)), "with low <= high everywhere"),
    (lambda: pcm.data.batch_iterator(None, 4, 0), "source must hold examples"),
    *each(
        lambda v: pcm.data.batch_iterator(pcm.data.load_source("digits", "test"), v, 0), NOT_WHOLE, "batch_size must"
    ),
    (lambda: pcm.metrics.frechet_distance(sum, sum), "two Moments are compared"),
    *each(Moments.empty, NOT_WHOLE, "dimensions must be a whole number"),
    (
        lambda: pcm.metrics.rms_error(np.zeros((4, 1)), np.zeros(4)),
        r"of one shape .*got \(4, 1\) and \(4,",
    ),
    (lambda: pcm.metrics.max_difference(np.zeros(0), np.zeros(0)), "not empty"),
    (lambda: pcm.metrics.time_call(3), "function must be a function"),
    *each(lambda v: pcm.metrics.time_call(math.pi.hex, repeats=v), NOT_WHOLE, "repeats must be a whole number"),
    *each(lambda v: pcm.parallel.pmap(v), (0, -1, 2.5, "a", True), "devices asked for"),
    *each(lambda v: pcm.parallel.inside(v), (1, None), "axis_name must be the name of a mapped axis"),
    (lambda: pcm.pretrained.load_arrays(None), "the path of a safetensors file is wanted, got None"),
    (lambda: pcm.pretrained.load_params(3, KERNEL), "the path of a safetensors file is wanted, got 3"),
]


@pytest.mark.parametrize(("call", "message"), TABLE)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_accepted_neighbours():
    pcm.schedules.linear_vp(np.int64(10), 1e-4, 0.999)
    pcm.schedules.VP((1.0, 0.5, 0.5, 0.0))
    pcm.schedules.rectified_flow(np.float32(3), 100)
    ddim(VP, np.int32(10), eta=np.float32(0.5), clip=np.float64(2.0), offset=np.int64(1))
    pcm.linearization.secant(0, 2)
    pcm.switching.frontier(np.float32(2.5))
    pcm.lora.merge(KERNEL, pcm.lora.init(KERNEL, 2, jax.random.key(0)), jnp.float32(0.5))
    jax.jit(lambda s: pcm.lora.merge(KERNEL, pcm.lora.init(KERNEL, 2, jax.random.key(0)), s))(0.5)
    jax.tree.map(lambda leaf: None, Normalizer(np.zeros(2), np.ones(2)))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("mlp", {"width": 0}, "width must be a whole number of at least 2, got 0"),
        ("mlp", {"width": "a"}, "width must be a whole number of at least 2, got 'a'"),
        ("mlp", {"depth": 2.5}, "depth must be a whole number"),
        ("mlp", {"expansion": -1}, "expansion must be a whole number"),
        ("mlp", {"num_classes": -1}, "num_classes must be a whole number"),
        ("unet2d", {"channels": ()}, r"channels must be a tuple of widths, one for each level, got \(\)"),
        ("unet2d", {"channels": (0, 8)}, "channels must be a whole number of at least 1"),
        ("unet2d", {"channels": 8}, "channels must be a tuple of widths"),
        ("unet2d", {"blocks": 0}, "blocks must be a whole number"),
        ("unet1d", {"channels": ()}, "channels must be a tuple of widths"),
        ("unet1d", {"kernel_size": 0}, "kernel_size must be a whole number"),
    ],
)
def test_networks(name, fields, message):
    x = jnp.zeros((1, 8, 2) if name == "unet1d" else (1, 8, 8, 1))
    with pytest.raises(ValueError, match=message):
        pcm.networks.linen(pcm.networks.by_name(name, **fields)).init(jax.random.key(0), x, jnp.zeros(1))


def test_what_a_message_shows():
    assert checks.shown(np.zeros((3, 4))) == "float64 of shape (3, 4)"
    assert checks.shown(10**50) == "a number of more than 30 digits"
    assert len(checks.shown("a" * 500)) < 90
    with pytest.raises(ValueError, match="x must be a finite number, got JitTracer"):
        jax.jit(lambda x: checks.number("x", x))(1.0)


def test_a_function_that_names_its_own_mistake_is_not_wrapped():
    def says(x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as error:
        checks.traced("f", "remedy", says, 1.0)
    assert "remedy" not in str(error.value)
