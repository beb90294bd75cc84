"""The shipped policies with their shipped adapters act as the sequential sampler does."""

import jax
import numpy as np
import pytest

from pcm_jax.pretrained import available_policies, load_adapter, load_policy


@pytest.mark.parametrize("name", available_policies())
def test_shipped_adapters_change_no_certified_action(name):
    policy = load_policy(name)
    adapter = load_adapter(f"{name}-ddpm100", policy)
    middle = (np.asarray(policy.observation.low) + np.asarray(policy.observation.high)) / 2
    history, keys = np.tile(middle, (2, policy.obs_horizon, 1)), jax.random.split(jax.random.key(0), 2)
    exact = policy.act(history, keys)
    fast = policy.picard(adapter=adapter.adapter, switch=adapter.switch, tol=5e-4).act(history, keys)
    assert np.all(fast.out.converged) and np.max(fast.out.stats.rounds) < 30
    away = np.abs(np.asarray(fast.actions - exact.actions)) / np.asarray(policy.action.range)
    assert np.max(away) < 5e-3
