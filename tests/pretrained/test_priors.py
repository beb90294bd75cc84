"""Priors in files, and the shipped ones against the models that they belong to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax import pretrained, priors
from pcm_jax.pretrained import PRIORS, available_priors, load_prior, save_prior
from tests.priors import models

LIMIT = 500_000
"""Bytes of a shipped file."""


@pytest.mark.fast
@pytest.mark.parametrize("kind", ["pooled", "class", "observation"])
def test_round_trip(tmp_path, kind):
    prior = models.prior(kind, shared=kind == "class")
    path = save_prior(tmp_path / "mine.safetensors", prior, base={"w": jnp.ones(3)})
    for found in (load_prior("mine", directory=tmp_path), load_prior(path, base={"w": jnp.ones(3)})):
        assert jax.tree.structure(found) == jax.tree.structure(prior)
        for name in ("mean", "basis", "weights"):
            if getattr(prior, name) is not None:
                np.testing.assert_allclose(getattr(found, name), getattr(prior, name), rtol=2**-8)
        np.testing.assert_array_equal(found.variances, prior.variances)
        assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype(np.float32)}
    assert available_priors(tmp_path) == ("mine",)


@pytest.mark.fast
def test_bad_files(tmp_path):
    path = save_prior(tmp_path / "mine.safetensors", models.prior(), base={"w": jnp.ones(3)})
    with pytest.raises(ValueError, match="there are: mine"):
        load_prior("yours", directory=tmp_path)
    with pytest.raises(ValueError, match="there are: mine"):
        load_prior(tmp_path / "yours.safetensors", directory=tmp_path)
    with pytest.raises(ValueError, match=r"other weights .*fit it again"):
        load_prior(path, base={"w": jnp.zeros(3)})
    other = tmp_path / "other.safetensors"
    pretrained.save_params(other, {"mean": jnp.ones(3)}, {"name": "a model"})
    with pytest.raises(ValueError, match="is no prior of this package; write one with"):
        load_prior(other)
    pretrained.save_params(other, {"mean": jnp.ones(3)}, {"prior": "class"})
    with pytest.raises(ValueError, match="is no prior of this package"):
        load_prior(other)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match="truncated or not a safetensors"):
        load_prior(path)


@pytest.mark.fast
@pytest.mark.parametrize("name", available_priors())
def test_shipped_files(name):
    path = PRIORS / f"{name}.safetensors"
    assert path.stat().st_size < LIMIT
    assert pretrained.load_metadata(path)["about"]["command"].startswith("python -m experiments.models.priors fit")
    prior = load_prior(name)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(prior))
    columns = jnp.swapaxes(prior.basis, 1, 2) @ prior.basis
    identity = np.broadcast_to(np.eye(columns.shape[-1]), columns.shape)
    np.testing.assert_allclose(columns, identity, atol=0.02)
    policies = pretrained.available_policies()
    owner = pretrained.load_policy(name) if name in policies else pretrained.load(name)
    shape = (owner.horizon, owner.action.size) if name in policies else owner.sample_shape
    assert prior.sample_shape == shape


def test_the_digits_guess_is_nearer_than_the_noise():
    model = pretrained.load("digits")
    prior = load_prior("digits", model.params)
    noise, label = jax.random.normal(jax.random.key(3), (20, *model.sample_shape)), jnp.arange(20) % 10
    solver = pcm.solvers.ddim(model.schedule, 50, prediction=model.prediction, clip=model.clip)
    exact = pcm.sample_sequential(model.model_fn, model.params, noise, solver, cond=label).sample

    def error(guess):
        return float(jnp.sqrt(jnp.mean((guess - exact) ** 2)))

    guess = priors.trajectory(prior, solver, noise, None, label)
    assert error(guess[-1]) < 0.25 < 0.35 < error(priors.trajectory(prior, solver, noise)[-1]) < error(noise)
    assert error(priors.parallel_trajectory(prior, solver, noise, None, label)[-1]) < 0.27
    rounds = [
        pcm.sample_picard(
            model.model_fn, model.params, noise, solver, cond=label, max_rounds=2, init=init, tol=0.0
        ).sample
        for init in (None, guess)
    ]
    assert error(rounds[1]) < error(rounds[0]) / 2


@pytest.mark.parametrize("name", ["fashion", "emoji32"])
def test_guesses_of_images_are_nearer_than_the_noise(name):
    model, prior = pretrained.load(name), load_prior(name)
    noise, label = jax.random.normal(jax.random.key(3), (2, *model.sample_shape)), jnp.array([3, 7])
    solver = pcm.solvers.ddim(model.schedule, 8, prediction=model.prediction, clip=model.clip)
    exact = pcm.sample_sequential(model.model_fn, model.params, noise, solver, cond=label).sample
    guess = priors.trajectory(prior, solver, noise, None, label)[-1]
    errors = [float(jnp.sqrt(jnp.mean((one - exact) ** 2))) for one in (guess, noise)]
    assert errors[0] < errors[1] / 2


@pytest.mark.parametrize("name", ["pusht", "metaworld"])
def test_guesses_of_actions_are_nearer_than_the_noise(name):
    policy = pretrained.load_policy(name)
    prior = load_prior(name, policy.params)
    noise_key, step_key, seen_key = jax.random.split(jax.random.key(3), 3)
    noise = jax.random.normal(noise_key, (16, policy.horizon, policy.action.size))
    z = jax.random.normal(step_key, (len(policy.solver), *noise.shape))
    # One observation, seen twice: a robot at rest.
    seen = jax.random.uniform(seen_key, (16, 1, policy.observation.size), minval=-0.5, maxval=0.5)
    seen = jnp.repeat(seen, policy.obs_horizon, axis=1)
    exact = pcm.sample_sequential(policy.model_fn, policy.params, noise, policy.solver, cond=seen, step_noise=z).sample
    guess = priors.trajectory(prior, policy.solver, noise, z, seen)[-1]
    errors = [float(jnp.sqrt(jnp.mean((one - exact) ** 2))) for one in (guess, noise)]
    assert errors[0] < 0.7 * errors[1]
