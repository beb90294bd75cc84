"""Networks that round inside, and otherwise on another number of rows, as kernels do: `tol` plus what it says of that.

`sample_picard`: samples differ by about eps(network) + sqrt(T) eps(state), relative to the data, beside tol.
"""

import functools

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import pcm_jax as pcm
from tests import problems

SCHEDULE = problems.VP
MEAN = np.float32([1.0, -0.5, 2.0, 0.0, 0.5, -1.0])
MANTISSA = {"bfloat16": 7, "float16": 10}  # TF32 has float16's
EXPONENT = {"bfloat16": 8, "float16": 5}


def rounded(x, kind):
    return lax.reduce_precision(x, EXPONENT[kind], MANTISSA[kind])


@functools.lru_cache
def network(kind, prediction):
    """A nonlinear data prediction whose hidden layer, sums and output are rounded; sums depend on the batch."""

    def model(params, x, t, cond):
        rows = x.shape[0]
        cast = functools.partial(rounded, kind=kind)
        w1, w2 = cast(params["w1"]), cast(params["w2"])
        hidden = cast(jnp.tanh(cast(cast(x) @ w1 + t[:, None] / 1000 * params["time"][None])))
        # Another number of rows takes another blocking: partial sums over other parts of the hidden layer.
        hidden, w2 = jnp.roll(hidden, rows, axis=1), jnp.roll(w2, rows, axis=0)
        total = jnp.zeros((rows, w2.shape[1]), x.dtype)
        for start in range(0, w2.shape[0], 8):
            total = cast(total + cast(hidden[:, start : start + 8] @ w2[start : start + 8]))
        data = cast(jnp.tanh(total) + jnp.asarray(MEAN)[None])
        if prediction == "data":
            return data
        alpha, sigma = (jnp.asarray(value, x.dtype)[:, None] for value in SCHEDULE.marginals(t))
        return cast((x - alpha * data) / sigma)

    return model


SOLVERS = {
    "ddim-40": pcm.solvers.ddim(SCHEDULE, 40, prediction="data"),
    "ddim-40-epsilon": pcm.solvers.ddim(SCHEDULE, 40, clip=3.0),
    "ddpm-40": pcm.solvers.ddpm(SCHEDULE, 40, prediction="data"),
    "dpm++-20": pcm.solvers.dpm_solver_pp(SCHEDULE, 20, prediction="data"),
}
PREDICTION = {"ddim-40-epsilon": "epsilon"}


def errors(name, kind, tol, window=None, batch=5):
    """(RMS error of each sample, outputs, RMS size of the data)."""
    solver, model = SOLVERS[name], network(kind, PREDICTION.get(name, "data"))
    params, noise = problems.mlp_params(), problems.noise(batch)
    how = {"key": problems.key_for(solver)}
    exact = np.asarray(pcm.sample_sequential(model, params, noise, solver, **how).sample)
    out = pcm.sample_picard(model, params, noise, solver, tol=tol, window=window, **how)
    return np.sqrt(np.mean((np.asarray(out.sample) - exact) ** 2, axis=1)), out, float(np.sqrt(np.mean(exact**2)))


CASES = [("ddim-40", "bfloat16"), ("ddim-40", "float16"), ("ddpm-40", "bfloat16"), ("dpm++-20", "bfloat16")]
CASES += [("ddim-40-epsilon", "bfloat16")]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_certified_samples_are_off_by_no_more_than_tol_and_the_rounding(name, kind):
    solver = SOLVERS[name]
    for tol, window in ((1e-2, None), (1e-3, None), *([(1e-2, 7)] if name == "ddim-40" else [])):
        error, out, size = errors(name, kind, tol, window)
        rounding = 2.0 ** -MANTISSA[kind] + len(solver) ** 0.5 * float(jnp.finfo(jnp.float32).eps)
        done = np.asarray(out.converged)
        assert np.all(error[done] <= tol + rounding * size), (tol, window, error.max())
        assert done.all() or tol < rounding or window is not None


@pytest.mark.fast
def test_rounding_is_what_sets_these_samplers_apart():
    """Or the test above could not fail: with tol = 0 rounds go on until nothing changes, and yet the samples differ."""
    error, out, _ = errors("ddim-40", "bfloat16", 0.0)
    assert bool(jnp.all(out.converged)) and error.max() > 1e-4
    model, x = network("bfloat16", "data"), problems.noise()
    few, many = (
        model(problems.mlp_params(), jnp.tile(x, (count, 1)), jnp.full(4 * count, 500.0), None)[:4] for count in (1, 3)
    )
    assert bool(jnp.any(many != few))
