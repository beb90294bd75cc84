import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax.policy import Controller
from tests.policy.policies import small

POLICY = small().picard(tol=1e-3)
KEYS = jax.random.split(jax.random.key(0), 2)


def observations(step):
    draw = np.random.default_rng(step).random((2, 3)).astype(np.float32)
    return draw * np.float32([1, 4, 1]) + np.float32([0, -2, 5])


def run(steps=9, **options):
    seen = []
    controller = Controller(POLICY, KEYS, on_decision=lambda *told: seen.append(told), **options)
    return np.stack([controller.act(observations(step)) for step in range(steps)]), seen


@pytest.mark.fast
def test_a_chunk_is_used_up_before_the_next_decision():
    actions, decisions = run()
    assert len(decisions) == 3, "9 steps, 4 actions to a chunk"
    for number, (decision, history, keys) in enumerate(decisions):
        np.testing.assert_array_equal(history[:, 1], observations(4 * number))
        np.testing.assert_array_equal(history[:, 0], observations(max(4 * number - 1, 0)))
        expected = [jax.random.fold_in(key, number) for key in KEYS]
        assert all(jnp.all(k == e) for k, e in zip(keys, expected, strict=True))
        part = actions[4 * number : 4 * number + 4]
        np.testing.assert_array_equal(part, np.moveaxis(np.asarray(decision.actions), 1, 0)[: len(part)])


def test_a_warm_start_takes_the_same_actions():
    cold, _ = run()
    warm, decisions = run(warm_start=True)
    np.testing.assert_allclose(warm, cold, atol=1e-2)
    assert all(decision.out.converged.all() for decision, _, _ in decisions)


@pytest.mark.fast
def test_reset_begins_anew():
    controller = Controller(POLICY, KEYS)
    first = [controller.act(observations(step)) for step in range(6)]
    controller.reset()
    np.testing.assert_array_equal([controller.act(observations(step)) for step in range(6)], first)


@pytest.mark.fast
def test_bad_observations_and_bad_weights():
    with pytest.raises(ValueError, match=r"observations must be \[2, O\], one for each key, got \(3,\)"):
        Controller(POLICY, KEYS).act(observations(0)[0])
    with pytest.raises(ValueError, match=r"the observations of robots \[1\] hold NaN or inf"):
        Controller(POLICY, KEYS).act(observations(0) * np.float32([[1], [np.nan]]))
    broken = dataclasses.replace(POLICY, params=jax.tree.map(lambda leaf: leaf * jnp.nan, POLICY.params))
    with pytest.raises(FloatingPointError, match=r"decision 1 of policy small is not finite; its results are \[2, 2\]"):
        Controller(broken, KEYS).act(observations(0))
