"""Every recipe runs, and its loop is the one that it was."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.recipes import action_expert, alphafold3, diffusionlab, flax_pipeline, frameworks
from experiments.recipes.common import karras

RECIPES = {
    "AlphaFold 3, digits": functools.partial(alphafold3.digits, batch=2, steps=40),
    "AlphaFold 3, atoms": functools.partial(alphafold3.points, batch=2, steps=30),
    "action expert": functools.partial(action_expert.run, batch=2, steps=20),
    "Flax pipeline": functools.partial(flax_pipeline.run, batch=2, steps=20),
} | {name: functools.partial(frameworks.run, name, batch=2, steps=20) for name in frameworks.FRAMEWORKS}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_certified_and_within_its_bound(name):
    report = RECIPES[name]()
    assert report.converged == 1 and report.error <= report.bound <= report.tol
    assert report.most_rounds < report.steps
    assert "jax.lax.scan" in report.was and "pcm_jax.scan" in report.now


@pytest.mark.slow
def test_diffusionlab():
    pytest.importorskip("diffusionlab", reason="pip install diffusionlab to run its sampler")
    report = diffusionlab.run(batch=2, steps=20)
    assert report.converged == 1 and report.error <= report.bound <= report.tol


def test_a_pose_inside_the_network_call_leaves_an_equivariant_network_alone():
    """Turned, moved, and turned back; so the sampler's law does not know of it."""

    def shrink(x, level):
        centre = jnp.mean(x, axis=1, keepdims=True)
        return centre + (x - centre) / (1 + level)

    x = jax.random.normal(jax.random.key(0), (3, 8, 3))
    posed = alphafold3.in_a_random_pose(shrink)
    for seed in range(3):
        np.testing.assert_allclose(posed(x, 2.0, jax.random.key(seed)), shrink(x, 2.0), atol=1e-5)
    fixed = alphafold3.in_a_random_pose(lambda x, level: jnp.ones_like(x))
    assert not np.allclose(fixed(x, 2.0, jax.random.key(0)), fixed(x, 2.0, jax.random.key(1)))


def test_noise_levels():
    levels = np.asarray(karras(5, 0.03, 60.0))
    np.testing.assert_allclose(levels[[0, 4, 5]], [60.0, 0.03, 0.0], rtol=1e-5)
    assert np.all(np.diff(levels) < 0)
