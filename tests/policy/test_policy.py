import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax import lora
from pcm_jax.policy.decision import draw_noise, moved_on
from pcm_jax.switching import FeatureSpace
from tests.policy.policies import histories, small

POLICY = small()
KEYS = jax.random.split(jax.random.key(0), 3)
SEEN = histories()


@pytest.mark.fast
def test_a_decision_is_what_the_sampler_draws():
    decision = POLICY.act(SEEN, KEYS)
    noise, z = draw_noise(KEYS, POLICY.solver, (8, 2))
    cond = (SEEN - np.float32([0.5, 0, 5.5])) / np.float32([0.5, 2, 0.5])
    exact = pcm.sample_sequential(POLICY.model_fn, POLICY.params, noise, POLICY.solver, cond=cond, step_noise=z)
    np.testing.assert_allclose(decision.plan, exact.sample, atol=1e-5)
    # Number obs_horizon - 1 of the chunk is the action for now.
    carried_out = np.asarray(exact.sample[:, 1:5]) * np.float32([2, 10]) + np.float32([-1, 20])
    np.testing.assert_allclose(decision.actions, carried_out, atol=1e-3)
    assert np.abs(np.asarray(decision.plan)).max() <= 1 + 1e-6, "the predicted actions are clipped"


@pytest.mark.parametrize("options", [{}, {"window": 6}, {"linearization": pcm.linearization.identity()}])
def test_picard_takes_the_same_actions(options):
    exact, fast = POLICY.act(SEEN, KEYS), POLICY.picard(tol=1e-3, **options).act(SEEN, KEYS)
    assert fast.out.converged.all()
    np.testing.assert_allclose(fast.plan, exact.plan, atol=1e-3)


def test_an_adapter_that_is_badly_wrong_changes_no_action():
    tuned = lora.init(POLICY.params, 4, jax.random.key(1))
    wrong = jax.tree.map(lambda leaf: leaf + 0.5, tuned)
    adapter = FeatureSpace(lora.merge(POLICY.params, wrong))
    fast = POLICY.picard(tol=1e-3, adapter=adapter, switch=pcm.switching.after(3)).act(SEEN, KEYS)
    assert fast.out.converged.all()
    np.testing.assert_allclose(fast.plan, POLICY.act(SEEN, KEYS).plan, atol=1e-3)


def test_a_decision_does_not_depend_on_its_neighbours():
    fast = POLICY.picard(tol=1e-3)
    together = fast.act(SEEN, KEYS)
    for index in range(3):
        alone = fast.act(SEEN[index], KEYS[index])
        assert alone.actions.shape == (4, 2) and alone.plan.shape == (8, 2)
        np.testing.assert_allclose(alone.actions, together.actions[index], atol=1e-4)


def test_a_warm_start_saves_rounds_and_changes_no_action():
    fast = POLICY.picard(tol=1e-3)
    first = fast.act(SEEN, KEYS)
    # An observation that says what the last one said, and a plan that needs no shift: nothing is left to find.
    still = dataclasses.replace(POLICY, action_horizon=1).picard(tol=1e-3)
    held = first._replace(plan=jnp.roll(first.plan, 1, axis=1))
    warm, cold = still.act(SEEN, KEYS, held), still.act(SEEN, KEYS)
    assert warm.out.converged.all()
    assert int(warm.out.stats.rounds.sum()) < int(cold.out.stats.rounds.sum())
    np.testing.assert_allclose(warm.plan, cold.plan, atol=1e-3)
    np.testing.assert_allclose(fast.act(SEEN, KEYS, first).plan, first.plan, atol=1e-3)


@pytest.mark.fast
def test_a_plan_moves_on_by_what_was_carried_out():
    plan = jnp.arange(5.0)[None, :, None]
    assert moved_on(plan, 3)[0, :, 0].tolist() == [3, 4, 4, 4, 4]
    assert moved_on(plan, 0)[0, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert moved_on(plan, 9)[0, :, 0].tolist() == [4] * 5


def test_it_compiles_once_and_traces():
    fast = POLICY.picard(tol=1e-3)
    jax.block_until_ready(fast.act(SEEN, KEYS))
    with jax.log_compiles(False):
        from pcm_jax.policy.decision import decide

        before = decide._cache_size()
        fast.act(SEEN + 0.1, jax.random.split(jax.random.key(5), 3))
        dataclasses.replace(fast, params=small(7).params).act(SEEN, KEYS)
        assert decide._cache_size() == before
    inside = jax.jit(lambda seen: 2.0 * fast.act(seen, KEYS).actions)(SEEN)
    np.testing.assert_allclose(inside, 2.0 * fast.act(SEEN, KEYS).actions, atol=1e-3)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("seen", "keys", "message"),
    [
        (SEEN[:, :1], KEYS, r"history must be \[2, O\] or \[B, 2, O\], got \(3, 1, 3\); repeat the first observation"),
        (SEEN[0, 0], KEYS[0], r"history must be"),
        (SEEN[..., :2], KEYS, r"fitted on 3 numbers, got shape \(3, 2, 2\): observations or actions of another robot"),
        (SEEN, KEYS[0], r"needs keys of shape \(3,\), got \(\)"),
        (SEEN[0], KEYS, r"needs keys of shape \(\), got \(3,\)"),
    ],
    ids=["length", "dimensions", "width", "one key", "many keys"],
)
def test_histories_that_do_not_fit(seen, keys, message):
    with pytest.raises(ValueError, match=message):
        POLICY.act(seen, keys)


@pytest.mark.fast
def test_horizons_that_do_not_fit():
    with pytest.raises(ValueError, match=r"has 7 from now on, action_horizon is 8"):
        dataclasses.replace(POLICY, action_horizon=8)
    with pytest.raises(ValueError, match="obs_horizon must be a whole number of at least 1, got 0"):
        dataclasses.replace(POLICY, obs_horizon=0)
