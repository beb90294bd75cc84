"""Diffusion Policy's denoiser: its convolution, activation, shapes, conditioning and LoRA."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from pcm_jax import lora, networks
from pcm_jax.networks.unet1d import mish, short_conv

NETWORK = networks.ConditionalUNet1D(channels=(8, 16), embed=8, groups=4)
X = jax.random.normal(jax.random.key(0), (3, 8, 2))
T = jnp.array([0.0, 7.0, 99.0])
SEEN = jax.random.normal(jax.random.key(1), (3, 2, 5))


@pytest.fixture(scope="module")
def model():
    model_fn = networks.linen(NETWORK)
    return jax.jit(model_fn), jax.jit(model_fn.init)(jax.random.key(2), X, T, SEEN)


@pytest.mark.parametrize("taps", [1, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", ((1, 1),)], ids=["same", "one"])
@pytest.mark.parametrize("length", [7, 8])
def test_convolution_is_xlas(taps, stride, padding, length):
    keys = jax.random.split(jax.random.key(taps), 2)
    x, kernel = jax.random.normal(keys[0], (2, length, 3)), jax.random.normal(keys[1], (taps, 3, 4))
    expected = lax.conv_general_dilated(x, kernel, (stride,), padding, dimension_numbers=("NWC", "WIO", "NWC"))
    np.testing.assert_allclose(short_conv(x, kernel, (stride,), padding), expected, rtol=1e-5, atol=1e-5)


def test_mish_and_its_gradient_at_both_ends():
    x = jnp.linspace(-60.0, 60.0, 1001)
    np.testing.assert_allclose(mish(x), jax.nn.mish(x), rtol=2e-6, atol=1e-6)
    slope = jax.vmap(jax.grad(mish))(x)
    np.testing.assert_allclose(slope, jax.vmap(jax.grad(jax.nn.mish))(x), rtol=1e-5, atol=1e-5)


def test_rows_are_independent_and_read_time_and_observations(model):
    model_fn, params = model
    out = model_fn(params, X, T, SEEN)
    assert out.shape == X.shape and out.dtype == X.dtype
    for row in range(3):
        alone = model_fn(params, X[row : row + 1], T[row : row + 1], SEEN[row : row + 1])
        np.testing.assert_allclose(alone[0], out[row], atol=1e-5)
    assert float(jnp.max(jnp.abs(model_fn(params, X, T + 5.0, SEEN) - out))) > 1e-3
    assert float(jnp.max(jnp.abs(model_fn(params, X, T, -SEEN) - out))) > 1e-3
    np.testing.assert_array_equal(model_fn(params, X, T, {"observation": SEEN}), out)


def test_size_of_the_papers_network():
    network = networks.linen(networks.by_name("unet1d", channels=[256, 512, 1024]))
    x = jax.ShapeDtypeStruct((1, 16, 2), jnp.float32)
    shapes = jax.eval_shape(
        network.init,
        jax.random.key(0),
        x,
        jax.ShapeDtypeStruct((1,), jnp.float32),
        jax.ShapeDtypeStruct((1, 2, 5), jnp.float32),
    )
    # Its documentation says 65 million for Push-T's keypoints (2 x 20 numbers): 10 numbers make it a little smaller.
    assert 6.4e7 < sum(leaf.size for leaf in jax.tree.leaves(shapes)) < 6.7e7


def test_every_kernel_takes_a_lora(model):
    model_fn, params = model
    tuned = jax.jit(lambda params: lora.init(params, 2, jax.random.key(3)))(params)
    assert {"upsample_1/kernel", "downsample_0/kernel"} <= set(tuned.factors)
    draw = np.random.default_rng(4)
    factors = {
        name: {"down": pair["down"], "up": 0.1 * draw.normal(size=pair["up"].shape).astype(np.float32)}
        for name, pair in tuned.factors.items()
    }
    tuned = lora.LoRA(factors, tuned.scale)
    merged = model_fn(jax.jit(lora.merge)(params, tuned), X, T, SEEN)
    split = jax.jit(networks.FactoredLinen(NETWORK))(params, tuned, X, T, SEEN, jnp.ones(3))
    np.testing.assert_allclose(split, merged, atol=1e-5)


def test_mlp_reads_observations():
    model_fn = networks.linen(networks.ResidualMLP(width=16, depth=1, observations=True))
    params = jax.jit(model_fn.init)(jax.random.key(0), X, T, SEEN)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), params)
    assert float(jnp.max(jnp.abs(model_fn(params, X, T, SEEN) - model_fn(params, X, T, -SEEN)))) > 1e-3
    with pytest.raises(ValueError, match="observations must be floats of shape"):
        model_fn(params, X, T, SEEN[:2])


@pytest.mark.parametrize(
    ("cond", "message"),
    [(None, None), (SEEN[:2], "observations must be floats"), ({"goal": SEEN}, "without the key 'observation'")],
    ids=["none", "batch", "mapping"],
)
def test_conditioning_that_does_not_fit(model, cond, message):
    model_fn, params = model
    with pytest.raises(Exception, match=message or "shape"):
        model_fn(params, X, T, cond)


def test_horizon_that_cannot_be_halved(model):
    model_fn, params = model
    with pytest.raises(ValueError, match="multiple of 2"):
        model_fn(params, X[:, :7], T, SEEN)
