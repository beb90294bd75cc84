"""Merged and factored forms are one model; a new LoRA is the base model; mistakes are found before work starts."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax import lora, networks
from pcm_jax.switching import FeatureSpace


class Mixed(nn.Module):
    """Dense, strided and dilated convolution, embedding, and a dense layer that is called twice."""

    @nn.compact
    def __call__(self, x, t, cond):
        h = nn.Conv(8, (3, 3), (2, 2), name="conv")(x)
        h = nn.silu(nn.Conv(8, (3, 3), kernel_dilation=(2, 2), padding="CIRCULAR", name="dilated")(h))
        again = nn.Dense(8, name="twice")
        h = again(jnp.tanh(again(h))) + nn.Embed(10, 8, name="embed")(cond)[:, None, None]
        h = h + nn.Dense(8, name="time")(t[:, None] / 1000)[:, None, None]
        return nn.Dense(x.shape[-1], name="out")(jax.image.resize(h, (*x.shape[:3], 8), "nearest"))


class Grouped(nn.Module):
    @nn.compact
    def __call__(self, x, t, cond):
        return nn.Conv(4, (3, 3), feature_group_count=4, name="conv")(x)


class General(nn.Module):
    @nn.compact
    def __call__(self, x, t, cond):
        return nn.DenseGeneral(x.shape[-1], name="general")(x)


X = jax.random.normal(jax.random.key(0), (5, 8, 8, 4))
T = jnp.linspace(0.0, 999.0, 5)
COND = jnp.arange(5)
SHARE = jnp.array([0.0, 1.0, 0.5, 0.0, 0.25])

MODULES = {
    "mixed": Mixed(),
    "unet": networks.UNet2D(channels=(8, 16), attention=(1,), num_classes=10, patch=2),
    "mlp": networks.ResidualMLP(width=16, depth=2, num_classes=10),
}


@functools.partial(jax.jit, static_argnums=(1, 2))
def moved(tree, size, seed):
    return jax.tree.map(lambda leaf: leaf + size * jax.random.normal(jax.random.key(seed), leaf.shape), tree)


def setup(module, rank=3, **options):
    model_fn = networks.linen(module)
    params = jax.jit(model_fn.init)(jax.random.key(1), X, T, COND)
    noisy = moved(params, 0.05, 2)
    return model_fn, noisy, lora.init(noisy, rank, jax.random.key(3), **options)


def trained(adapted):
    return moved(adapted, 0.1, 4)


@pytest.mark.parametrize("name", MODULES)
def test_merged_is_factored_for_every_lambda(name):
    model_fn, params, adapted = setup(MODULES[name], alpha=6.0)
    assert adapted.scale == 2.0
    adapted = trained(adapted)
    adapter = networks.factored(model_fn, adapted)
    out = jax.jit(adapter.predict, static_argnums=0)(model_fn, params, X, T, COND, SHARE)
    call, merge = jax.jit(model_fn), jax.jit(lora.merge)
    base = call(params, X, T, COND)
    for row, share in enumerate(SHARE):
        merged = call(merge(params, adapted, share), X, T, COND)[row]
        np.testing.assert_allclose(out[row], merged, atol=1e-5)
    np.testing.assert_allclose(out[0], base[0], atol=1e-6)
    assert np.max(np.abs(out[1] - base[1])) > 1e-2


@pytest.mark.fast
def test_a_new_lora_is_the_base_model():
    model_fn, params, adapted = setup(MODULES["mixed"])
    adapter = networks.factored(model_fn, adapted)
    out = adapter.predict(model_fn, params, X, T, COND, jnp.ones(5))
    np.testing.assert_allclose(out, model_fn(params, X, T, COND), atol=1e-6)
    for left, right in zip(jax.tree.leaves(params), jax.tree.leaves(lora.merge(params, adapted)), strict=True):
        np.testing.assert_array_equal(left, right)


def test_selection_rank_and_count():
    _, params, adapted = setup(MODULES["mixed"], rank=4)
    assert set(adapted.factors) == {
        "conv/kernel", "dilated/kernel", "twice/kernel", "embed/embedding", "time/kernel", "out/kernel",
    }  # fmt: skip
    assert adapted.factors["conv/kernel"]["down"].shape == (3, 3, 4, 4)
    assert adapted.factors["time/kernel"]["down"].shape == (1, 1), "a matrix of one row has rank 1"
    expected = sum(pair["down"].size + pair["up"].size for pair in adapted.factors.values())
    assert lora.num_parameters(adapted) == expected
    only = lora.init(params, 2, jax.random.key(0), select="conv|out")
    assert set(only.factors) == {"conv/kernel", "out/kernel"}
    assert set(lora.init(params, 2, jax.random.key(0), select=lambda name: name == "twice/kernel").factors) == {
        "twice/kernel"
    }


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be a whole number of at least 1"),
        ({"rank": 2.5}, "whole number"),
        ({"rank": 100}, r"choose 1\.\.8"),
        ({"rank": 2, "select": "attention"}, "matches none of the parameters: .*conv/"),
        ({"rank": 2, "select": "bias"}, "no matrix"),
    ],
)
def test_bad_lora(options, message):
    _, params, _ = setup(MODULES["mixed"])
    with pytest.raises(ValueError, match=message):
        lora.init(params, key=jax.random.key(0), **options)


def test_a_lora_of_another_model_names_the_kernel():
    _, params, _ = setup(MODULES["mixed"])
    model_fn, other, foreign = setup(MODULES["mlp"])
    with pytest.raises(ValueError, match="LoRA is of another model: it adapts 'block_0/"):
        lora.merge(params, foreign)
    wide = networks.ResidualMLP(width=24, depth=2, num_classes=10)
    _, _, misfit = setup(wide)
    with pytest.raises(ValueError, match=r"LoRA is of another model: '.*kernel' is float32"):
        networks.factored(model_fn, misfit).predict(model_fn, other, X, T, COND, SHARE)


def test_layers_without_a_factored_form_are_named():
    for module, message in ((Grouped(), "grouped convolution"), (General(), "cannot be adapted in factored form")):
        model_fn, params, adapted = setup(module, rank=1)
        with pytest.raises(ValueError, match=message):
            networks.factored(model_fn, adapted).predict(model_fn, params, X, T, COND, SHARE)
        merged = lora.merge(params, trained(adapted))
        assert np.isfinite(FeatureSpace(merged).predict(model_fn, params, X, T, COND, SHARE)).all()
    with pytest.raises(ValueError, match="needs a Linen model"):
        networks.factored(lambda params, x, t, cond: x, adapted)
