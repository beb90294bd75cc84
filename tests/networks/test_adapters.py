import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pcm_jax as pcm
from pcm_jax import networks
from tests import problems


class NNXNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.layer = nnx.Linear(6, 6, rngs=rngs)

    def __call__(self, x, t, cond):
        return jnp.tanh(self.layer(x)) + t[:, None] / 1000


class LinenNet(nn.Module):
    """NNXNet with the same parameter names."""

    sizes: tuple[int, ...] = (6,)

    @nn.compact
    def __call__(self, x, t, cond):
        return jnp.tanh(nn.Dense(self.sizes[0], name="layer")(x)) + t[:, None] / 1000


@pytest.mark.fast
def test_both_adapters_give_the_module_and_agree():
    x, t = problems.noise(), jnp.arange(4.0)
    module = NNXNet(nnx.Rngs(0))
    from_nnx, params = networks.nnx(module)
    from_linen = networks.linen(LinenNet())
    np.testing.assert_array_equal(from_nnx(params, x, t, None), module(x, t, None))
    np.testing.assert_allclose(from_linen(params, x, t, None), module(x, t, None), rtol=1e-6)


@pytest.mark.fast
def test_equal_modules_give_equal_hashable_functions():
    first, _ = networks.nnx(NNXNet(nnx.Rngs(0)))
    second, _ = networks.nnx(NNXNet(nnx.Rngs(1)))
    assert first == second and hash(first) == hash(second)
    assert networks.nnx_model(nnx.split(NNXNet(nnx.Rngs(2)))[0]) == first
    assert networks.linen(LinenNet()) == networks.linen(LinenNet())
    assert hash(networks.linen(LinenNet())) == hash(networks.linen(LinenNet()))
    assert networks.linen(LinenNet()) != networks.linen(LinenNet((7,)))


def test_an_equal_module_does_not_compile_again():
    solver, noise = pcm.solvers.ddim(problems.VP, 4), problems.noise()
    traced = []

    @jax.jit(static_argnums=0)
    def run(model_fn, params):
        traced.append(model_fn)
        return pcm.sample_sequential(model_fn, params, noise, solver).sample

    samples = []
    for seed in (0, 1):
        model_fn, params = networks.nnx(NNXNet(nnx.Rngs(seed)))
        samples.append(run(model_fn, params))
    assert len(traced) == 1
    assert np.abs(samples[0] - samples[1]).max() > 1e-3


def test_parameters_are_plain_trees_that_differentiate():
    for model_fn, params in (
        networks.nnx(NNXNet(nnx.Rngs(0))),
        (networks.linen(LinenNet()), {"layer": {"kernel": jnp.eye(6), "bias": jnp.zeros(6)}}),
    ):
        assert set(params) == {"layer"} and set(params["layer"]) == {"kernel", "bias"}
        x, t = problems.noise(), jnp.zeros(4)
        grads = jax.grad(lambda p, f=model_fn, x=x, t=t: jnp.sum(f(p, x, t, None)))(params)
        assert jax.tree.structure(grads) == jax.tree.structure(params)


def test_what_is_not_a_module_is_named():
    with pytest.raises(ValueError, match=r"linen\(\) takes a flax.linen.Module, got NNXNet; for NNX"):
        networks.linen(NNXNet(nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"nnx\(\) takes a flax.nnx.Module, got LinenNet; for Linen"):
        networks.nnx(LinenNet())
    with pytest.raises(ValueError, match="takes the graphdef"):
        networks.nnx_model(NNXNet(nnx.Rngs(0)))
    with pytest.raises(ValueError, match="use tuples instead of lists"):
        networks.linen(LinenNet(np.zeros(3)))
