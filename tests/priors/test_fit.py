"""Fitting recovers the Gaussian that samples came from; what does not fit is refused with the remedy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax.priors import GaussianPrior, check, fit_prior
from tests import problems
from tests.priors import models

pytestmark = pytest.mark.fast

SAMPLES = np.random.default_rng(0).standard_normal((40, 2, 3))
LABELS = np.arange(40) % 2
SEEN = np.random.default_rng(1).standard_normal((40, 3))


def drawn(prior: GaussianPrior, cond, count: int) -> np.ndarray:
    mean, covariance = models.dense(prior, cond, count)
    unit = np.random.default_rng(2).standard_normal((*mean.shape, 1))
    return (mean + (np.linalg.cholesky(covariance) @ unit)[..., 0]).reshape(count, *prior.sample_shape)


@pytest.mark.parametrize("kind", ["pooled", "class", "observation"])
@pytest.mark.parametrize("shared", [False, True])
def test_the_source_is_recovered(kind, shared):
    count = 60_000
    source = models.prior(kind, shared=shared)
    cond = models.conditioning(kind, count)
    cond = cond % models.CLASSES if kind == "class" else cond
    samples = drawn(source, cond, count)
    how = {"class": {"labels": cond}, "observation": {"observations": cond}, "pooled": {}}[kind]
    found = fit_prior(samples, **how, rank=4, ridge=0.0, shared_basis=shared)
    assert found.kind == kind and found.basis.shape[0] == (1 if shared else found.mean.shape[0])
    some = None if cond is None else cond[:2]
    for wanted, got in zip(models.dense(source, some, 2), models.dense(found, some, 2), strict=True):
        np.testing.assert_allclose(got, wanted, atol=0.05)
    flat = samples.reshape(count, -1)
    mean, covariance = models.dense(found, None, 1)
    np.testing.assert_allclose(mean[0], flat.mean(0), atol=1e-5)
    assert np.trace(covariance[0]) == pytest.approx(np.trace(np.cov(flat.T, bias=True)), rel=1e-5)


def test_full_rank_is_the_sample_covariance():
    found = fit_prior(SAMPLES, rank=6)
    assert float(found.remainder[0]) == 0.0
    _, covariance = models.dense(found, None, 1)
    np.testing.assert_allclose(covariance[0], np.cov(SAMPLES.reshape(40, -1).T, bias=True), atol=1e-6)


def test_more_directions_than_samples():
    found = fit_prior(SAMPLES[:3], rank=5)
    np.testing.assert_allclose(found.basis[0].T @ found.basis[0], np.eye(5), atol=1e-6)
    np.testing.assert_allclose(found.variances[0, 2:], 0.0, atol=1e-6)


def test_a_penalty_pulls_towards_the_pooled_mean():
    free, held = (fit_prior(SAMPLES, observations=SEEN, ridge=ridge) for ridge in (0.0, 1e6))
    assert np.abs(held.weights).max() < 1e-4 < np.abs(free.weights).max()
    np.testing.assert_allclose(held.mean[0], held.mean[-1], atol=1e-4)


NAN = SAMPLES.copy()
NAN[7] = np.nan


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((SAMPLES[:1],), {}, "at least 2 samples, got 1; draw more"),
        ((SAMPLES, np.minimum(np.arange(40), 1)), {}, "class 0 has 1; draw more of it"),
        ((SAMPLES, LABELS), {"num_classes": 3}, "class 2 has 0"),
        ((NAN,), {}, "number 7 is not finite; leave out"),
        ((SAMPLES[:, 0, 0],), {}, r"must be \[N, ...\]"),
        ((SAMPLES, LABELS - 1), {}, r"0\.\.0, got -1"),
        ((SAMPLES, LABELS), {"num_classes": 1}, "got 1; leave out samples of the null label"),
        ((SAMPLES, LABELS / 2), {}, "labels must be 40 integers"),
        ((SAMPLES, LABELS[:3]), {}, "labels must be 40 integers"),
        ((SAMPLES, LABELS, SEEN), {}, "labels or observations"),
        ((SAMPLES, None, SEEN[:5]), {}, "a row for each of the 40 samples, got 5"),
        ((SAMPLES, None, SEEN), {"ridge": -1.0}, "ridge must be at least 0"),
        ((SAMPLES,), {"rank": 0}, r"rank must be a whole number in 1\.\.6"),
        ((SAMPLES,), {"rank": 7}, r"rank must be a whole number in 1\.\.6"),
        ((SAMPLES,), {"rank": 2.0}, "rank must be a whole number"),
    ],
)
def test_samples_that_cannot_be_fitted(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        fit_prior(*arguments, **options)


DDIM = problems.SOLVERS["ddim"]()
NOISE = models.noise_for("ddim")
CLASS, SEES = models.prior("class"), models.prior("observation")


@pytest.mark.parametrize(
    ("prior", "solver", "noise", "cond", "message"),
    [
        ({}, DDIM, NOISE, None, "make one with pcm_jax.priors.fit_prior"),
        (CLASS, dataclasses.replace(DDIM, alpha=None), NOISE, None, "no columns alpha and sigma"),
        (CLASS, DDIM, NOISE[:, :1], None, r"samples \(2, 3\), noise has \(1, 3\)"),
        (CLASS, DDIM, NOISE, {"text": NOISE}, "pooled.. goes with any"),
        (CLASS, DDIM, NOISE, jnp.zeros(4), "must be integer labels"),
        (CLASS, DDIM, NOISE, jnp.zeros((4, 2), int), "must be integer labels"),
        (CLASS, DDIM, NOISE, jnp.array([0, 1, 2, 3]), r"label 3, the prior has the classes 0\.\.1 and 2 for none"),
        (CLASS, DDIM, NOISE, jnp.array([0, 1, 2, -1]), "label -1"),
        (SEES, DDIM, NOISE, jnp.zeros((4, 2)), "observations of 3 numbers"),
        (SEES, DDIM, NOISE, jnp.zeros((3, 3)), "observations of 3 numbers"),
    ],
)
def test_calls_that_a_prior_does_not_fit(prior, solver, noise, cond, message):
    with pytest.raises(ValueError, match=message):
        check(prior, solver, noise, cond)


def test_calls_that_it_fits():
    for cond in (None, jnp.array([0, 1, 2, 2]), np.array([0, 1, 0, 1])):
        check(CLASS, DDIM, NOISE, cond)
    check(SEES, DDIM, NOISE, jnp.zeros((4, 3, 1)))
    check(CLASS.pooled(), DDIM, NOISE, {"text": NOISE})
    jax.jit(lambda noise, cond: check(CLASS, DDIM, noise, cond))(NOISE, jnp.arange(4))
