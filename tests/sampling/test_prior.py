"""`sample_picard(prior=..)`: another start, the same sample."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax import guidance, switching
from pcm_jax.priors import trajectory
from tests import problems
from tests.priors import models

PRIOR = models.prior(shape=(6,))
COND = models.conditioning("class", 4)


def labelled(params, x, t, cond):
    return problems.mlp(params, x, t, None) + 0.1 * cond[:, None].astype(x.dtype)


def both(name="ddim", model=labelled, **options):
    solver = problems.SOLVERS[name]()
    args = (model, problems.mlp_params(), problems.noise(), solver)
    draws = {"cond": COND, "key": problems.key_for(solver)}
    return (
        pcm.sample_sequential(*args, **draws).sample,
        functools.partial(pcm.sample_picard, *args, **draws, prior=PRIOR, **options),
    )


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("name", problems.SOLVERS)
def test_the_prior_changes_the_rounds_and_not_the_sample(name, window):
    reference, sample = both(name, window=window)
    out = sample(tol=0.0)
    size = max(1.0, float(jnp.max(jnp.abs(reference))))
    np.testing.assert_allclose(out.sample, reference, atol=1e-5 * size)
    assert bool(jnp.all(out.converged))


@pytest.mark.fast
def test_a_model_that_is_its_prior_takes_one_round():
    solver = problems.SOLVERS["ddim"]()
    prior = models.prior()
    params = models.dense(prior, COND, 4)
    noise = models.noise_for("ddim")

    def model(params, x, t, cond):  # rows are repeated for every step: so are the Gaussians
        repeat = len(x) // 4
        return models.posterior("ddim")(jax.tree.map(lambda leaf: jnp.concatenate([leaf] * repeat), params), x, t, cond)

    params = jax.tree.map(jnp.float32, params)
    out = pcm.sample_picard(model, params, noise, solver, cond=COND, prior=prior, tol=1e-2)
    assert out.stats.rounds.tolist() == [1] * 4
    copies = pcm.sample_picard(model, params, noise, solver, cond=COND, tol=1e-2)
    assert int(copies.stats.rounds.min()) > 1


def test_its_guess_is_the_one_of_init():
    _, sample = both()
    guess = trajectory(PRIOR, problems.SOLVERS["ddim"](), problems.noise(), None, COND)
    given = sample(prior=None, init=guess, tol=1e-3, linearization=pcm.linearization.identity())
    made = sample(tol=1e-3, linearization=pcm.linearization.identity())
    np.testing.assert_allclose(given.sample, made.sample, atol=1e-5)
    assert given.stats.rounds.tolist() == made.stats.rounds.tolist()


def test_under_transformations_and_executors():
    reference, sample = both("ddpm", tol=1e-4, window=6)
    plain = sample()
    np.testing.assert_allclose(plain.sample, reference, atol=1e-3)
    for executor in (pcm.parallel.pmap(3), pcm.parallel.shard_map(4)):
        out = sample(executor=executor)
        np.testing.assert_allclose(out.sample, plain.sample, atol=1e-5)
        assert out.stats.rounds.tolist() == plain.stats.rounds.tolist()

    def draw(prior, noise):
        solver = problems.SOLVERS["ddpm"]()
        return pcm.sample_picard(
            labelled, problems.mlp_params(), noise, solver, cond=COND, key=problems.key_for(solver), tol=1e-4,
            window=6, prior=prior,
        ).sample  # fmt: skip

    noise = problems.noise()
    np.testing.assert_allclose(jax.jit(draw)(PRIOR, noise), plain.sample, atol=1e-5)
    two = jax.vmap(draw, in_axes=(None, 0))(PRIOR, jnp.stack([noise, noise]))
    np.testing.assert_allclose(two[1], plain.sample, atol=1e-5)
    by_prior, by_noise = jax.grad(lambda *args: jnp.sum(draw(*args) ** 2), argnums=(0, 1))(PRIOR, noise)
    assert all(not leaf.any() for leaf in jax.tree.leaves(by_prior))  # the fixed point does not depend on it
    assert bool(jnp.any(by_noise != 0))


def test_with_a_fine_tuned_model_and_under_guidance():
    reference, sample = both()
    wrong = jax.tree.map(lambda leaf: 3.0 * leaf + 0.3, problems.mlp_params())
    out = sample(adapter=switching.FeatureSpace(wrong), switch=switching.after(2), tol=1e-4)
    assert bool(jnp.all(out.converged))
    np.testing.assert_allclose(out.sample, reference, atol=1e-3)
    reference, sample = both(model=guidance.classifier_free(labelled, 2.0, models.CLASSES))
    np.testing.assert_allclose(sample(tol=1e-4).sample, reference, atol=1e-3)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": np.zeros((13, 4, 6), np.float32)}, "init and prior are both first guesses"),
        ({"prior": "digits"}, "prior must be a GaussianPrior, got str"),
        ({"prior": models.prior()}, r"the prior is of samples \(2, 3\), noise has \(6,\)"),
        ({"cond": jnp.full(4, 7)}, "cond has the label 7"),
        ({"cond": {"text": jnp.zeros((4, 3))}}, r"prior.pooled\(\)"),
        ({"prior": models.prior("observation", shape=(6,))}, "observations of 3 numbers"),
    ],
)
def test_bad_input(options, message):
    _, sample = both(model=lambda params, x, t, cond: problems.mlp(params, x, t, None))
    options = {"init": None} | options
    if options["init"] is not None:
        options["init"] = np.zeros((len(problems.SOLVERS["ddim"]()) + 1, 4, 6), np.float32)
    with pytest.raises(ValueError, match=message):
        sample(**options)
