"""The trajectory of a held data prediction, against the sequential sampler on a model that predicts it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.sampling.network import draw_step_noise
from tests import problems

DATA = jnp.array([[0.5, -0.3, 0.9, 0.0], [-0.8, 0.2, 0.1, 0.6]])
NOISE = jax.random.normal(jax.random.key(0), DATA.shape)


@pytest.mark.parametrize("name", problems.SOLVERS)
def test_the_guess_is_what_the_solver_does_when_the_data_is_held(name):
    solver = problems.SOLVERS[name]()
    model = problems.knowing(name)

    z = draw_step_noise(jax.random.key(1), len(solver), NOISE.shape, jnp.float32) if solver.stochastic else None
    # In the solver's own range: EDM begins at sigma = 80.
    noise = NOISE * (80.0 if name == "heun-edm" else 1.0)
    exact = pcm.sample_sequential(model, None, noise, solver, cond=DATA, step_noise=z, return_trajectory=True)
    guess = pcm.guess.from_data(solver, noise, DATA, z)
    scale = float(jnp.max(jnp.abs(exact.trajectory)))
    np.testing.assert_allclose(guess, exact.trajectory, atol=3e-4 * scale)


@pytest.mark.fast
def test_a_good_guess_saves_rounds_and_changes_no_sample():
    solver = pcm.solvers.ddpm(problems.VP, 40, clip=1.0)
    params, x = problems.mlp_params(), problems.noise()
    z = draw_step_noise(jax.random.key(2), 40, x.shape, jnp.float32)
    exact = pcm.sample_sequential(problems.mlp, params, x, solver, step_noise=z).sample
    cold = pcm.sample_picard(problems.mlp, params, x, solver, step_noise=z, tol=1e-3)
    guess = pcm.guess.from_data(solver, x, exact, z)
    warm = pcm.sample_picard(problems.mlp, params, x, solver, step_noise=z, tol=1e-3, init=guess)
    assert warm.converged.all() and int(warm.stats.rounds.max()) < int(cold.stats.rounds.max())
    np.testing.assert_allclose(warm.sample, exact, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NOISE, DATA[:1], None), "shape of the noise"),
        ((NOISE, DATA, None), "give the sampler's step_noise"),
        ((NOISE, DATA, jnp.zeros((3, 2, 4))), "give the sampler's step_noise"),
    ],
    ids=["data", "missing", "steps"],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        pcm.guess.from_data(problems.SOLVERS["ddpm"](), *arguments)
