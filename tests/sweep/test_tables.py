"""Tables that are built by hand: `solvers.Solver` with one column or field that no sampler can mean."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from tests import problems

pytestmark = pytest.mark.fast
DDIM = pcm.solvers.ddim(problems.VP, 4)
MULTI = pcm.solvers.dpm_solver_pp(problems.VP, 4, prediction="data")
NOISE = jnp.ones((2, 6))
COLUMNS = ("time", "input_scale", "data_x", "data_p", "a", "b", "c", "variance", "held_data", "held_noise", "data_gain")


def model(params, x, t, cond):
    return params * x


def sample(solver, sampler=pcm.sample_sequential):
    return sampler(model, jnp.float32(0.1), NOISE, solver)


def put(column, value):
    changed = np.array(column)
    changed[1] = value
    return changed


@pytest.mark.parametrize("name", COLUMNS)
def test_columns(name):
    column = np.asarray(getattr(DDIM, name))
    wrong = [put(column, np.nan), put(column, np.inf), column[:2], column[None], column.astype(complex), list(column)]
    wrong += [None, 1.0, "a", column.astype(str)]
    for value in wrong:
        with pytest.raises(ValueError, match=rf"solver's ({name}|\w+) is an? |{name} is finite"):
            sample(dataclasses.replace(DDIM, **{name: value}))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"variance": -np.ones(4, np.float32)}, "variance is at least 0, got -1"),
        ({"stochastic": "no"}, "stochastic must be True or False"),
        ({"start_scale": 0.0}, "start_scale must be a finite number above 0"),
        ({"start_scale": np.nan}, "start_scale must be"),
        ({"clip": -1.0}, "clip must be a finite number above 0"),
        ({"clip": np.nan}, "clip must be"),
        ({"clip": True}, "clip must be"),
        ({"name": 3}, "a solver's name is text, got 3"),
        ({"lags": (0,)}, "lags must be a whole number of at least 1"),
        ({"lags": (1, 1), "history": MULTI.history * 2}, r"one column of history for each of its lags"),
        ({"lags": (1,), "history": ()}, "got 0 columns for the lags"),
        ({"lags": 1}, "lags is a tuple"),
        ({"history": None}, "history is a tuple"),
        ({"memory": (DDIM.a,)}, r"memory is a tuple \(r, s\)"),
        ({"memory": (DDIM.a, put(DDIM.a, np.nan))}, r"memory\[1\] is finite everywhere"),
        ({"alpha": put(DDIM.a, np.nan)}, "alpha is finite everywhere, got nan in step 1"),
        ({"raw": np.ones(3, np.float32)}, "raw is an array"),
    ],
)
@pytest.mark.parametrize("sampler", [pcm.sample_sequential, pcm.sample_picard])
def test_fields(sampler, fields, message):
    with pytest.raises(ValueError, match=message):
        sample(dataclasses.replace(DDIM, **fields), sampler)


def test_right_tables_pass():
    for solver in (DDIM, MULTI, dataclasses.replace(DDIM, alpha=None, sigma=None)):
        assert np.isfinite(sample(solver).sample).all()
    on_device = jax.tree.map(jnp.asarray, DDIM)
    assert jnp.array_equal(sample(on_device).sample, sample(DDIM).sample)
    traced = jax.jit(lambda table: sample(table).sample)(DDIM)
    np.testing.assert_allclose(traced, sample(DDIM).sample, rtol=1e-6)
