"""The guess against the sequential sampler on the network that is the prior's exact posterior mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.guidance import classifier_free
from pcm_jax.priors import parallel_trajectory, slope, trajectory
from tests import problems
from tests.priors import models


def exact(name, solver, prior, noise, cond, z):
    mean, covariance = models.dense(prior, cond, len(noise))
    params = jnp.asarray(mean, jnp.float32), jnp.asarray(covariance, jnp.float32)
    run = pcm.sample_sequential(models.posterior(name), params, noise, solver, step_noise=z, return_trajectory=True)
    return run.trajectory


@pytest.mark.parametrize("name", problems.SOLVERS)
def test_the_guess_is_the_sampler_on_the_posterior_mean(name):
    solver, prior = problems.SOLVERS[name](), models.prior()
    noise = models.noise_for(name)
    cond, z = models.conditioning("class", len(noise)), models.step_noise_for(solver, noise)
    wanted = exact(name, solver, prior, noise, cond, z)
    found = trajectory(prior, solver, solver.first(noise), z, cond)
    scale = float(jnp.max(jnp.abs(wanted)))
    np.testing.assert_allclose(found, wanted, atol=3e-4 * scale)
    np.testing.assert_allclose(found[-1], wanted[-1], atol=2e-3)
    if not solver.multistep and solver.clip is None:
        np.testing.assert_allclose(parallel_trajectory(prior, solver, noise, z, cond), found, atol=2e-5 * scale)


@pytest.mark.parametrize(("kind", "shared"), [("pooled", False), ("class", True), ("observation", False)])
def test_every_kind_of_prior(kind, shared):
    name = "ddpm"
    solver, prior = problems.SOLVERS[name](), models.prior(kind, shared=shared)
    noise = models.noise_for(name)
    z = models.step_noise_for(solver, noise)
    for cond in (models.conditioning(kind, len(noise)), None):
        wanted = exact(name, solver, prior, noise, cond, z)
        found = trajectory(prior, solver, noise, z, cond)
        np.testing.assert_allclose(found, wanted, atol=2e-3)
        np.testing.assert_allclose(parallel_trajectory(prior, solver, noise, z, cond), found, atol=1e-4)
    pooled = trajectory(prior.pooled(), solver, noise, z, models.conditioning(kind, len(noise)))
    np.testing.assert_allclose(pooled, found, atol=1e-5)


@pytest.mark.fast
def test_the_null_label_is_the_pooled_component():
    solver, prior, noise = problems.SOLVERS["ddim"](), models.prior(), models.noise_for("ddim")
    null = trajectory(prior, solver, noise, cond=jnp.full(len(noise), models.CLASSES))
    np.testing.assert_allclose(null, trajectory(prior, solver, noise), atol=1e-5)


@pytest.mark.fast
def test_guidance_is_that_of_the_network():
    solver, prior, noise = problems.SOLVERS["ddim"](), models.prior(), models.noise_for("ddim")
    label = jnp.arange(len(noise)) % models.CLASSES
    network = models.posterior("ddim")
    table = [models.dense(prior, np.arange(models.CLASSES + 1), models.CLASSES + 1)]
    arrays = jax.tree.map(lambda array: jnp.asarray(array, jnp.float32), table[0])

    def by_label(params, x, t, cond):
        return network(jax.tree.map(lambda leaf: leaf[cond], params), x, t, None)

    guided = classifier_free(by_label, 2.5, null_cond=models.CLASSES)
    wanted = pcm.sample_sequential(guided, arrays, noise, solver, cond=label, return_trajectory=True).trajectory
    np.testing.assert_allclose(trajectory(prior, solver, noise, cond=label, guidance=2.5), wanted, atol=3e-3)


def test_under_jit_vmap_and_grad():
    solver, prior, noise = problems.SOLVERS["ddpm"](), models.prior(), models.noise_for("ddpm")
    cond, z = models.conditioning("class", len(noise)), models.step_noise_for(solver, noise)
    plain = trajectory(prior, solver, noise, z, cond)
    np.testing.assert_allclose(jax.jit(trajectory)(prior, solver, noise, z, cond), plain, atol=1e-5)

    def one(x, z, label):
        return trajectory(prior, solver, x[None], z[:, None], label[None])[:, 0]

    each = jax.vmap(one, in_axes=(0, 1, 0), out_axes=1)(noise, z, cond)
    np.testing.assert_allclose(each, plain, atol=1e-5)

    def end(x):
        return jnp.sum(trajectory(prior, solver, x, z, cond)[6] ** 2)

    aside = jax.random.normal(jax.random.key(4), noise.shape)
    slope_along = jnp.vdot(jax.grad(end)(noise), aside)
    step = 1e-1
    difference = (end(noise + step * aside) - end(noise - step * aside)) / (2 * step)
    np.testing.assert_allclose(slope_along, difference, rtol=1e-2)


@pytest.mark.fast
def test_states_are_float32_at_least():
    solver, prior, noise = problems.SOLVERS["ddim"](), models.prior(), models.noise_for("ddim")
    assert trajectory(prior, solver, noise.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.fast
def test_the_parallel_form_is_of_one_step_solvers():
    with pytest.raises(ValueError, match="call trajectory instead"):
        parallel_trajectory(models.prior(), problems.SOLVERS["heun"](), models.noise_for("heun"))


@pytest.mark.parametrize("name", ["ddim", "ddpm-large", "heun", "dpm_solver_pp"])
def test_the_slope_is_the_mean_of_the_jacobian(name):
    solver, prior = problems.SOLVERS[name](), models.prior()
    found = slope(prior, solver, jnp.arange(models.CLASSES + 1))
    assert found.shape == (len(solver), models.CLASSES + 1)
    np.testing.assert_allclose(slope(prior, solver), found[:, -1], rtol=1e-5)
    _, covariance = models.dense(prior, np.arange(models.CLASSES + 1), models.CLASSES + 1)
    for label in range(models.CLASSES + 1):
        for row in (0, 3, len(solver) - 1):
            a, s = solver.alpha[row], solver.sigma[row]
            inner = a * covariance[label] @ np.linalg.inv(a**2 * covariance[label] + s**2 * np.eye(models.DIM))
            held, gain = solver.held_data[row], solver.data_gain[row]
            wanted = np.trace(held * np.eye(models.DIM) + gain * inner) / models.DIM
            np.testing.assert_allclose(found[row, label], wanted, rtol=2e-4, atol=1e-5)


def test_a_prior_around_samples_is_that_gaussian_for_each():
    given, mean = models.prior("observation"), jax.random.normal(jax.random.key(5), (4, 2, 3))
    solver, noise = problems.SOLVERS["ddim"](), models.noise_for("ddim")
    about = given.around(mean, 0.5)
    found = trajectory(about, solver, noise, None, models.conditioning("observation", 4))
    slopes = slope(about, solver)
    for sample in range(4):
        one = models.GaussianPrior(
            mean[sample][None], given.basis[:1], 0.5 * given.variances[:1], 0.5 * given.remainder[:1]
        )
        alone = trajectory(one, solver, noise[sample][None])
        np.testing.assert_allclose(found[:, sample], alone[:, 0], atol=1e-5)
        np.testing.assert_allclose(slopes[:, sample], slope(one, solver), atol=1e-6)
