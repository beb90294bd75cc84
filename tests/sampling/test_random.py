"""Random solvers, schedules, windows, tolerances, batch shapes and dtypes: Picard stays the sequential sampler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pcm_jax as pcm

SCHEDULES = {
    "linear": pcm.schedules.linear_vp(),
    "scaled": pcm.schedules.scaled_linear_vp(),
    "cosine": pcm.schedules.cosine_vp(),
    "flow": pcm.schedules.rectified_flow(shift=2.0),
    "edm": pcm.schedules.edm(sigma_max=20.0),
}
SLOPES = ("identity", "zero", "held_noise", "held_data", "secant")


@st.composite
def solvers(draw):
    kind = draw(st.sampled_from(sorted(SCHEDULES)))
    names = ["ddim", "ddpm", "dpm_solver_pp", "heun"] + (["euler"] if kind in ("flow", "edm") else [])
    name = draw(st.sampled_from(names))
    options = {"prediction": draw(st.sampled_from(["data", "v", "velocity"] + (["edm"] if kind == "edm" else [])))}
    options["clip"] = draw(st.sampled_from([None, 1.0, 3.0]))
    if name == "ddim":
        options["eta"] = draw(st.sampled_from([0.0, 0.3, 1.0]))
    if kind not in ("flow", "edm"):
        options["spacing"] = draw(st.sampled_from(["leading", "trailing", "linspace"]))
    return pcm.solvers.by_name(name, SCHEDULES[kind], draw(st.integers(1, 9)), **options)


def network(params, x, t, cond):
    """Contracting, so that no random composition of it is chaotic; any sample shape."""
    time = t.reshape((-1,) + (1,) * (x.ndim - 1)).astype(x.dtype)
    out = 0.8 * jnp.tanh(params * x + 0.001 * time)
    if cond is not None:
        out += 0.1 * cond.reshape(time.shape).astype(x.dtype)
    return out.astype(x.dtype)


CASES = {"data": st.data(), "solver": solvers(), "shape": st.sampled_from([(1, 3), (3, 2), (2, 4, 4, 1), (5, 7)])}


@settings(max_examples=10)
@given(**CASES)
def test_picard_is_sequential(data, solver, shape):
    picard_is_sequential(data, solver, shape)


@pytest.mark.slow
@settings(max_examples=50)
@given(**CASES)
def test_picard_is_sequential_many_times(data, solver, shape):
    picard_is_sequential(data, solver, shape)


def picard_is_sequential(data, solver, shape):
    steps = len(solver)
    window = data.draw(st.one_of(st.none(), st.integers(1, steps)), label="window")
    dtype = data.draw(st.sampled_from([jnp.float32, jnp.float32, jnp.bfloat16]), label="dtype")
    slope = getattr(pcm.linearization, data.draw(st.sampled_from(SLOPES), label="slope"))()
    tol = data.draw(st.sampled_from([0.0, 1e-5, 1e-3, 1e-1] if dtype == jnp.float32 else [0.0, 1e-1]), label="tol")
    key = jax.random.key(data.draw(st.integers(0, 2**31 - 1), label="seed"))
    noise = jax.random.normal(key, shape).astype(dtype)
    params = jnp.asarray(0.5, dtype)
    cond = jnp.arange(shape[0]) if data.draw(st.booleans(), label="cond") else None
    ref = pcm.sample_sequential(network, params, noise, solver, key=key, cond=cond)
    out = pcm.sample_picard(
        network, params, noise, solver, key=key, cond=cond, window=window, linearization=slope, tol=tol
    )
    assert bool(jnp.all(out.converged)), out.result
    assert np.all(np.asarray(out.stats.rounds) <= steps)
    assert float(jnp.max(out.error_bound)) <= np.float32(tol)
    if tol > 1e-5:
        # What a tolerance leaves depends on the map; going on from there without one has to end at the same sample.
        states = pcm.sample_picard(
            network, params, noise, solver, key=key, cond=cond, tol=tol, return_trajectory=True
        ).trajectory
        out = pcm.sample_picard(network, params, noise, solver, key=key, cond=cond, init=states, tol=0.0)
    size = max(1.0, float(jnp.max(jnp.abs(ref.sample))))
    round_off = size * (2e-5 if dtype == jnp.float32 else 3e-2)
    if dtype == jnp.bfloat16:
        # A coefficient of thousands multiplies each rounding; what the sequential sampler itself loses tells how much.
        noise, params = noise.astype(jnp.float32), params.astype(jnp.float32)
        exact = pcm.sample_sequential(network, params, noise, solver, key=key, cond=cond).sample
        round_off += float(jnp.max(jnp.abs(ref.sample - exact)))
    assert float(jnp.max(jnp.abs(out.sample - ref.sample))) <= round_off


@settings(max_examples=8)
@given(solver=solvers(), seed=st.integers(0, 2**31 - 1))
def test_float64(solver, seed):
    with jax.enable_x64(True):
        key = jax.random.key(seed)
        noise = jax.random.normal(key, (2, 3), jnp.float64)
        args = (network, jnp.float64(0.5), noise, solver)
        ref = pcm.sample_sequential(*args, key=key)
        out = pcm.sample_picard(*args, key=key, tol=0.0)
        assert out.sample.dtype == jnp.float64
        np.testing.assert_allclose(
            out.sample, ref.sample, rtol=0, atol=1e-11 * max(1.0, float(jnp.max(jnp.abs(ref.sample))))
        )
