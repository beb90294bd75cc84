"""Wrong calls of policies and controllers have named errors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax.data.robots import Normalizer
from pcm_jax.policy import Controller
from tests.policy import policies

pytestmark = pytest.mark.fast
POLICY, SEEN = policies.small(), policies.histories()
KEY, KEYS = jax.random.key(0), jax.random.split(jax.random.key(0), 3)
WIDE = Normalizer(np.zeros(5, np.float32), np.ones(5, np.float32))


def changed(**fields):
    return dataclasses.replace(POLICY, **fields)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: POLICY.act(None, KEY), "history must be an array of observations, got None"),
        (lambda: POLICY.act("a", KEY), "history must be an array of observations, got 'a'"),
        (lambda: POLICY.act(SEEN[0], 0), "needs keys of shape .* got 0"),
        (lambda: POLICY.act(SEEN[0], jnp.zeros(2)), "needs keys of shape"),
        (lambda: POLICY.act(SEEN[0], jnp.int32(3)), "needs keys of shape"),
        (lambda: POLICY.act(SEEN, jnp.zeros(3, jnp.uint32)), r"needs keys of shape \(3,\)"),
        (lambda: POLICY.act(SEEN, jnp.zeros((2, 2), jnp.uint32)), r"needs keys of shape \(3,\)"),
        (lambda: POLICY.act(SEEN[0], KEY, 3), "previous must be the last Decision of this policy, got 3"),
        (lambda: POLICY.picard(cond=1), "sample_picard has no option 'cond'; it has certificate, executor"),
        (lambda: POLICY.picard(noise=1), "has no option 'noise'"),
        (lambda: POLICY.picard(tolerance=1), "has no option 'tolerance'"),
        (lambda: changed(options=[1]), r"options must be a mapping of arguments of sample_picard, got \[1\]"),
        (lambda: changed(obs_horizon="a"), "obs_horizon must be a whole number of at least 1, got 'a'"),
        (lambda: changed(action_horizon=0), "action_horizon must be a whole number of at least 1"),
        (lambda: changed(horizon=17), r"model_fn\(params, x float32\(1, 17, 2\).* failed"),
        (lambda: changed(action=WIDE), r"model_fn\(params, x float32\(1, 8, 5\).* failed"),
        (lambda: changed(observation=WIDE), r"cond float32\(1, 2, 5\)\) failed"),
        (lambda: changed(observation=None), "observation must be a Normalizer of the demonstrations, got None"),
        (lambda: changed(params=None), "model_fn.* failed"),
        (lambda: changed(solver=None), "solver must be a pcm_jax.solvers table, got None"),
        (
            lambda: changed(preview=(1, 2)),
            r"preview must be MeasuredRows, .* got \(1, 2\); rows of your own go to picard",
        ),
        (lambda: Controller(None, KEYS), "policy must be a pcm_jax.policy.Policy, got None"),
        (lambda: Controller(POLICY, 0), r"keys must be \[B\] PRNG keys, .*, got 0"),
        (lambda: Controller(POLICY, KEY), r"keys must be \[B\] PRNG keys"),
        (lambda: Controller(POLICY, KEYS, warm_start="no"), "warm_start must be True or False"),
        (lambda: Controller(POLICY, KEYS, on_decision=3), "on_decision must be a function"),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_old_keys_are_keys_too():
    old = jax.vmap(jax.random.key_data)(KEYS)
    np.testing.assert_array_equal(POLICY.act(SEEN, old).actions, POLICY.act(SEEN, KEYS).actions)
    one = POLICY.act(SEEN[0], jax.random.key_data(KEYS[0]))
    np.testing.assert_allclose(one.actions, POLICY.act(SEEN, KEYS).actions[0], atol=1e-4)
