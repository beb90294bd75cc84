"""Slopes that carry errors further than steps do: of one leaf that another one moves, and of users' own choice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from experiments.campaigns import recurrences


@pytest.mark.parametrize(("seed", "index"), [(48, 15), (51, 13), (48, 20)])
def test_what_another_leaf_did_is_no_slope(seed, index):
    """A fast leaf at its fixed point, pushed by a slow one: its secant read 1.3 in 80 rows, and what a round returned
    was 450 times further off than the tolerance that its states had met.
    """
    program = recurrences.draw(seed)
    assert program.leaves == "slow" and program.slope == "secant" and program.window is None
    with jax.enable_x64(True):
        arrays = recurrences.inputs(program, seed, index)
        out, exact = recurrences.both(program, arrays)
        pairs = zip(out.carry, exact, strict=True)
        error = np.sqrt(np.sum([np.mean(np.square(np.asarray(a) - np.asarray(b)), axis=1) for a, b in pairs], axis=0))
        assert bool(jnp.all(out.converged))
        assert np.all(error <= float(arrays["tol"]))


def decay(x, noise):
    return 0.5 * x + 0.01 * jnp.tanh(3 * x) + 0.01 * noise


@pytest.mark.parametrize("slope", [1.3, -1.3])
def test_a_constant_slope_above_one_counts_as_a_gain(slope):
    """1.3 in 60 rows makes seven million of a defect that the step itself forgets."""
    noise = np.random.default_rng(0).normal(size=(60, 4, 3)).astype(np.float32)
    exact = jax.lax.scan(lambda x, z: (decay(x, z), None), jnp.ones((4, 3)), noise)[0]
    linearization = pcm.linearization.constant(slope)
    out = pcm.scan(decay, jnp.ones((4, 3)), noise, batch_axis=0, linearization=linearization, tol=1e-2)
    assert bool(jnp.all(out.converged))
    assert float(jnp.max(jnp.sqrt(jnp.mean((out.carry - exact) ** 2, axis=1)))) <= 1e-2
    assert bool(jnp.all(out.error_bound <= 1e-2))
