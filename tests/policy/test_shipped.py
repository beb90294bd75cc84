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


@pytest.mark.parametrize("name", available_policies())
def test_the_shipped_prior_saves_rounds_cold_and_warm(name):
    policy = load_policy(name)
    middle = (np.asarray(policy.observation.low) + np.asarray(policy.observation.high)) / 2
    history, keys = np.tile(middle, (4, policy.obs_horizon, 1)), jax.random.split(jax.random.key(0), 4)
    exact = policy.act(history, keys)
    fast = policy.picard(tol=1e-2)
    guessed, copies = fast.act(history, keys), policy.picard(tol=1e-2, prior=None).act(history, keys)
    warm = fast.act(history, keys, guessed)
    for decision in (guessed, copies, warm):
        assert np.all(decision.out.converged)
        error = np.sqrt(np.mean(np.square(np.asarray(decision.plan - exact.plan)), axis=(1, 2)))
        assert np.all(error <= 1e-2)
    assert np.sum(guessed.out.stats.rounds) < np.sum(copies.out.stats.rounds) - 4
