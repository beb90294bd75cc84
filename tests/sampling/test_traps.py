"""Traps of the field that no other file holds: in-painting (9) and round-off over long trajectories (11)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from tests import problems

MASK = (True, True, False, False, False, False)


def inpaint(params, x, t, cond):
    """Data prediction with known dimensions: x is projected before the call and the prediction after it.

    Known values travel in `cond`, one set a sample, so the projection is part of the map that both samplers iterate.
    """
    mask = jnp.asarray(MASK)[None]
    seen = jnp.where(mask, cond, x)
    return jnp.where(mask, cond, jnp.tanh(problems.mlp(params, seen, t, None)))


@dataclasses.dataclass(frozen=True)
class FreeDimensions:
    """The norm over the dimensions that are not known."""

    def __call__(self, change, variance):
        return pcm.norms.noise_units(change[..., 2:], variance)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm_solver_pp"])
def test_inpainting_keeps_the_known_dimensions_and_is_sequential(name):
    solver = pcm.solvers.by_name(name, problems.VP, 14, prediction="data")
    known = jax.random.normal(jax.random.key(9), (4, 6))
    args = (inpaint, problems.mlp_params(), problems.noise(), solver)
    options = {"cond": known, "key": problems.key_for(solver)}
    ref = pcm.sample_sequential(*args, **options)
    for window in (None, 5):
        out = pcm.sample_picard(*args, **options, window=window, tol=1e-4, norm=FreeDimensions())
        assert bool(jnp.all(out.converged))
        np.testing.assert_allclose(out.sample, ref.sample, atol=1e-3)
        np.testing.assert_allclose(out.sample[:, :2], known[:, :2], atol=1e-4)


def test_round_off_does_not_pile_up_over_a_long_trajectory():
    """States are stored as F_i(x_i), not as a sum of hundreds of differences."""
    solver = pcm.solvers.ddim(problems.VP, 500, prediction="data", clip=3.0)
    args = (problems.mlp, problems.mlp_params(), problems.noise(), solver)
    ref = pcm.sample_sequential(*args, return_trajectory=True)
    out = pcm.sample_picard(*args, window=64, tol=0.0, return_trajectory=True)
    assert bool(jnp.all(out.converged))
    size = float(jnp.max(jnp.abs(ref.trajectory)))
    assert float(jnp.max(jnp.abs(out.trajectory - ref.trajectory))) <= 8 * np.finfo(np.float32).eps * size


def test_reduced_precision_networks_keep_the_states_exact():
    """A bfloat16 network has a coarse map, but its fixed point is still reached to float32."""
    solver = pcm.solvers.ddim(problems.VP, 30, prediction="data", clip=3.0)
    args = (problems.mlp, problems.mlp_params(), problems.noise().astype(jnp.bfloat16), solver)
    out = pcm.sample_picard(*args, tol=0.0, return_trajectory=True)
    again = pcm.sample_picard(*args, tol=0.0, init=out.trajectory, return_trajectory=True)
    assert int(again.stats.rounds.max()) == 1
    np.testing.assert_array_equal(again.trajectory, out.trajectory)
