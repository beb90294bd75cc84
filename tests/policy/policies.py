"""A small policy with random weights: quick, nonlinear, and sensitive to what it observes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from experiments.campaigns import toys
from pcm_jax.data.robots import Normalizer
from pcm_jax.pretrained import build_policy

# A little larger than the campaigns' own: what is compared here has to be nonlinear.
CONFIG = dataclasses.replace(
    toys.POLICY,
    name="small",
    network=toys.POLICY.network | {"width": 16},
    num_steps=20,
)


def params(seed=0):
    _, shapes = CONFIG.build()
    leaves, tree = jax.tree.flatten(shapes)
    draws = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [jnp.asarray(0.2 * draws.normal(size=leaf.shape), leaf.dtype) for leaf in leaves])


def small(seed=0):
    observation = Normalizer(np.float32([0, -2, 5]), np.float32([1, 2, 6]))
    return build_policy(CONFIG, params(seed), observation, Normalizer(np.float32([-3, 10]), np.float32([1, 30])))


def histories(count=3):
    draw = np.random.default_rng(1).random((count, 2, 3)).astype(np.float32)
    return draw * np.float32([1, 4, 1]) + np.float32([0, -2, 5])
