"""A network of a few hundred weights and ten DDIM steps, for the tests of fine-tuning."""

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from pcm_jax import lora, networks
from pcm_jax.training import Base, Labels, solve_batch
from tests import problems

MODEL = networks.linen(networks.ResidualMLP(width=16, depth=1, num_classes=3))
SHAPE = (6,)


@jax.jit  # every collection imports this: one program instead of dozens
def _params():
    params = MODEL.init(jax.random.key(0), jnp.zeros((1, 6)), jnp.zeros(1), jnp.zeros(1, jnp.int32))
    return jax.tree.map(lambda leaf: leaf + 0.15 * jax.random.normal(jax.random.key(9), leaf.shape), params)


PARAMS = _params()
FACTORED = networks.FactoredLinen(MODEL.module)
DDIM = pcm.solvers.ddim(problems.VP, 10, prediction="data")
BASE = Base(PARAMS, DDIM)
ONES = np.ones((1, 10))


def fresh(rank=2):
    return lora.init(PARAMS, rank, jax.random.key(5))


def batch(solver=DDIM, size=6, seed=1, k=0):
    made = solve_batch(MODEL, Base(PARAMS, solver), SHAPE, size, Labels(3), jax.random.key(seed))
    return made | {"round": jnp.full(size, k, jnp.int32), "frozen": Base(PARAMS, solver)}
