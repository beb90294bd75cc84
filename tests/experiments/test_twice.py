"""Two rounds in an iteration: the same samples, rounds and bounds."""

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from experiments.bench import hlo
from experiments.bench.twice import two_rounds


def test_two_rounds_an_iteration_change_nothing_but_the_program():
    solver = pcm.solvers.ddim(pcm.schedules.linear_vp(), 12)
    noise = jax.random.normal(jax.random.key(0), (3, 4))

    def program():
        def sample(noise):
            return pcm.sample_picard(lambda params, x, t, cond: jnp.tanh(x * params), 1.0, noise, solver)

        return jax.jit(sample).lower(noise).compile()

    one = program()
    with two_rounds():
        two = program()
    expected, found = one(noise), two(noise)
    assert int(expected.stats.rounds.max()) % 2 == 1, "the last iteration has a round too many"
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert hlo.loop_kernels(two.as_text()) > 1.4 * hlo.loop_kernels(one.as_text())
