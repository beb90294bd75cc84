"""Traps of the field that no other file holds: units (3), noise (5), in-painting (9), round-off (11), JAX (12)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.sampling.network import draw_step_noise
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
        return pcm.norms.root_mean_square(change[..., 2:], variance)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm_solver_pp"])
def test_inpainting_keeps_the_known_dimensions_and_is_sequential(name):
    solver = pcm.solvers.by_name(name, problems.VP, 14, prediction="data")
    known = jax.random.normal(jax.random.key(9), (4, 6))
    args = (inpaint, problems.mlp_params(), problems.noise(), solver)
    options = {"cond": known, "key": problems.key_for(solver)}
    ref = pcm.sample_sequential(*args, **options)
    for window in (None, 5):
        out = pcm.sample_picard(
            *args, **options, window=window, tol=1e-4, certificate=pcm.certificates.defect_sum(FreeDimensions())
        )
        assert bool(jnp.all(out.converged))
        np.testing.assert_allclose(out.sample, ref.sample, atol=1e-3)
        np.testing.assert_allclose(out.sample[:, :2], known[:, :2], atol=1e-4)


def test_inpainting_projects_the_first_guess_too():
    """A guess that is wrong in the known dimensions alone is as good as the right one: they are projected first."""
    solver = pcm.solvers.ddim(problems.VP, 14, prediction="data")
    known = jax.random.normal(jax.random.key(9), (4, 6))
    args = (inpaint, problems.mlp_params(), problems.noise(), solver)
    right = pcm.sample_sequential(*args, cond=known, return_trajectory=True)
    free = functools.partial(
        pcm.sample_picard, *args, cond=known, tol=1e-3, certificate=pcm.certificates.defect_sum(FreeDimensions())
    )
    assert int(free(init=right.trajectory).stats.rounds.max()) == 1
    wrong = free(init=right.trajectory.at[:, :, :2].add(100.0))
    assert int(wrong.stats.rounds.max()) == 1
    # With the known dimensions in the norm, the same guess takes longer.
    blind = pcm.sample_picard(*args, cond=known, tol=1e-3, init=right.trajectory.at[:, :, :2].add(100.0))
    assert int(blind.stats.rounds.max()) > 1
    np.testing.assert_allclose(blind.sample, right.sample, atol=1e-3)


def test_a_state_is_judged_by_the_variance_of_the_step_that_made_it():
    """Trap 3. A norm that objects to one step's state alone: states up to and with it are accepted, not one more."""
    solver = pcm.solvers.ddim(problems.VP, 12)
    args = (problems.mlp, problems.mlp_params(), problems.noise(), solver)
    exact = pcm.sample_sequential(*args, return_trajectory=True).trajectory
    step = 5
    unit = float(np.float32(solver.variance[step]))

    def objects(change, variance):
        return jnp.where(variance == unit, 1.0, 0.0)

    out = pcm.sample_picard(
        *args, init=exact, certificate=pcm.certificates.last_change(objects), tol=1e-2, window=12, stats="full"
    )
    # State step + 1 comes from step 5. It is accepted (its inputs are settled); what is computed from it is not.
    assert out.stats.accepted[0].tolist() == [step + 1] * 4


def test_last_change_bounds_no_error():
    solver = pcm.solvers.ddim(problems.VP, 40)
    args = (problems.mlp, problems.mlp_params(), problems.noise(), solver)
    exact = pcm.sample_sequential(*args).sample
    out = pcm.sample_picard(*args, tol=1e-2, certificate=pcm.certificates.last_change(pcm.norms.largest))
    assert float(out.error_bound.max()) <= 1e-2
    assert float(jnp.max(jnp.abs(out.sample - exact))) > 1e-2


def test_step_noise_is_one_draw_for_each_step_and_sample():
    """Trap 5: not shared between steps, not seeded by the timestep's value, not moved by the window."""
    key = jax.random.key(3)
    z = draw_step_noise(key, 8, (4, 6), jnp.float32)
    flat = np.asarray(z).reshape(32, 6)
    assert len({row.tobytes() for row in flat}) == 32
    np.testing.assert_array_equal(z[:, :2], draw_step_noise(key, 8, (2, 6), jnp.float32))
    np.testing.assert_array_equal(z[:5], draw_step_noise(key, 5, (4, 6), jnp.float32))
    for spacing in ("leading", "trailing"):
        solver = pcm.solvers.ddpm(problems.VP, 8, spacing=spacing)
        args = (problems.mlp, problems.mlp_params(), problems.noise(), solver)
        for window in (3, None):
            drawn = pcm.sample_picard(*args, key=key, window=window, tol=0.0).sample
            given = pcm.sample_picard(*args, step_noise=z, window=window, tol=0.0).sample
            np.testing.assert_array_equal(drawn, given)


def test_the_round_has_no_branches_and_no_clamped_slices():
    """Trap 12: cond runs both branches under vmap, dynamic_slice clamps silently at the end of the trajectory."""

    def primitives(jaxpr):
        for equation in jaxpr.eqns:
            # A choice by platform is a branch in name alone: lowering makes it.
            if not equation.params.get("branches_platforms"):
                yield equation.primitive.name
            for value in equation.params.values():
                for inner in value if isinstance(value, (list, tuple)) else [value]:
                    inner = getattr(inner, "jaxpr", inner)
                    if hasattr(inner, "eqns"):
                        yield from primitives(inner)

    solver = pcm.solvers.ddim(problems.VP, 12)
    jaxpr = jax.make_jaxpr(lambda x: pcm.sample_picard(problems.mlp, problems.mlp_params(), x, solver, window=5))(
        problems.noise()
    )
    found = set(primitives(jaxpr.jaxpr))
    assert "while" in found
    assert not {"cond", "dynamic_slice"} & found


def test_round_off_of_a_whole_window_accepted_at_once():
    """Trap 11: 300 states accepted in one round are F_i(x_i), where a running sum of differences would drift."""
    solver = pcm.solvers.ddim(problems.VP, 300, prediction="data", clip=3.0)
    args = (problems.mlp, problems.mlp_params(), problems.noise(), solver)
    ref = pcm.sample_sequential(*args, return_trajectory=True).trajectory
    out = pcm.sample_picard(
        *args, init=ref, tol=1e-3, return_trajectory=True, linearization=pcm.linearization.identity()
    )
    assert int(out.stats.rounds.max()) == 1
    ours = float(jnp.max(jnp.abs(out.trajectory - ref)))
    summed = ref[:1] + jnp.cumsum(out.trajectory[1:] - ref[:-1], axis=0)
    assert ours < 0.5 * float(jnp.max(jnp.abs(summed - ref[1:])))
    assert ours <= 8 * np.finfo(np.float32).eps * float(jnp.max(jnp.abs(ref)))


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
