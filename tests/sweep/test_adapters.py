"""Adapters of what no network takes: `FeatureSpace` and `ParameterSpace`."""

import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.switching import FeatureSpace, ParameterSpace
from tests import problems

pytestmark = pytest.mark.fast
DDIM = pcm.solvers.ddim(problems.VP, 4)


def model(params, x, t, cond):
    return params["w"] * x


def other(params, x, t, cond):
    return params * x


WRONG = ("a", None, 3, {"v": 1.0}, {"w": "a"}, np.ones((5, 7)))


@pytest.mark.parametrize("params", WRONG)
@pytest.mark.parametrize("space", [FeatureSpace, ParameterSpace])
def test_parameters(space, params):
    adapter = space(params) if space is FeatureSpace else space(params, other)
    with pytest.raises(ValueError):
        sample(adapter)


@pytest.mark.parametrize("model_fn", ["a", 3, 2.5, object()])
@pytest.mark.parametrize("space", [FeatureSpace, ParameterSpace])
def test_functions(space, model_fn):
    with pytest.raises(ValueError, match=r"adapter|function"):
        sample(space({"w": jnp.float32(0.2)}, model_fn))


def sample(adapter):
    given = {"w": jnp.float32(0.1)}
    return pcm.sample_picard(
        model, given, jnp.ones((2, 6)), DDIM, adapter=adapter, switch=pcm.switching.after(1)
    ).sample
