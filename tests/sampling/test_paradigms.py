"""With slope 1, rounds do not exceed those of the published ParaDiGMS loop by more than one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from tests import problems
from tests.reference.paradigms_loop import paradigms


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
@pytest.mark.parametrize("tol", [1e-1, 1e-2])
@pytest.mark.parametrize("window", [8, 40])
def test_rounds(name, window, tol):
    steps = 40
    solver = getattr(pcm.solvers, name)(problems.VP, steps)
    params, noise = problems.mlp_params(), problems.noise(batch=3)
    z = jax.random.normal(jax.random.key(8), (steps, *noise.shape))
    step_noise = z if solver.stochastic else None
    out = pcm.sample_picard(
        problems.mlp,
        params,
        noise,
        solver,
        step_noise=step_noise,
        window=window,
        tol=tol,
        linearization=pcm.linearization.identity(),
        certificate=pcm.certificates.last_change(),
    )

    @jax.jit
    def padded(rows: jax.Array, x: jax.Array) -> jax.Array:
        table = solver.rows(rows)
        prediction = problems.mlp(params, x.reshape(-1, x.shape[-1]), jnp.repeat(table.time, x.shape[1]), None)
        return table.step(x, table.data(x, prediction.reshape(x.shape)))

    def step(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Noise-free steps of rows `[R]` from states `[R, B, D]`; windows at the end are filled up, to compile once."""
        index = np.minimum(np.arange(window), len(rows) - 1)
        return np.asarray(padded(rows[index], x[index].astype(np.float32)), np.float64)[: len(rows)]

    # Their unit: the ancestral variance at the timestep that a state leaves from.
    variance = pcm.solvers.ddpm(problems.VP, steps).variance
    injected = None if step_noise is None else np.asarray(z) * np.asarray(solver.c)[:, None, None]
    sample, rounds = paradigms(step, np.asarray(noise, np.float64), steps, window, tol, np.asarray(variance), injected)
    assert bool(jnp.all(out.converged))
    assert int(out.stats.rounds.max()) <= rounds + 1
    # Both loops have the sequential sample as their fixed point; how near a tolerance comes differs with its unit.
    ref = pcm.sample_sequential(problems.mlp, params, noise, solver, step_noise=step_noise).sample
    size = float(jnp.max(jnp.abs(ref)))
    for found in (np.asarray(out.sample), sample):
        assert np.max(np.abs(found - ref)) <= tol * size
