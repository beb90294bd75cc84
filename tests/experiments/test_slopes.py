"""Rules of the slope study beside what they stand for: the library's sampler, the prior's Jacobian, Broyden's rule."""

import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import pcm_jax as pcm
from experiments.peers import slope_study, slopes
from experiments.peers.fixed_point import copies, iterate
from experiments.peers.problem import image_case
from experiments.site import tables
from pcm_jax.priors.gaussian import components


@pytest.fixture(scope="module", params=["DDIM-50", "DDPM-100"])
def case(request):
    return image_case("digits", request.param, 3, 0)


def test_what_ships_is_what_the_sampler_does(case):
    """Both start where the prior says and take its mean slopes, then the secant."""
    r = case.recurrence
    start, rule = slope_study.variants(case, case)[slope_study.SHIPS]
    found = [estimate.sample for _, estimate in zip(range(4), iterate(case, rule, start), strict=False)]
    options = {"cond": r.cond, "step_noise": r.step_noise, "tol": 0.0, "max_rounds": 4, "return_rounds": True}
    out = pcm.sample_picard(r.model_fn, r.params, r.noise, r.solver, prior=case.prior, **options)
    np.testing.assert_allclose(found, out.iterates[:4], atol=2e-3)


def test_the_jacobian_is_the_derivative_of_the_priors_own_step(case):
    r = case.recurrence
    gaussian = components(case.prior, r.cond, 3, r.noise.dtype)
    flat = r.noise.reshape(3, -1)
    direction = jax.random.normal(jax.random.key(5), flat.shape)
    matrix = slopes._jacobian(r, gaussian, jnp.broadcast_to(flat, (len(r), *flat.shape)))
    found = matrix.times(gaussian, jnp.broadcast_to(direction, (len(r), *flat.shape)))
    for row in (0, len(r) // 2, len(r) - 2):
        table = jax.tree.map(lambda leaf, n=row: jnp.asarray(leaf[n]), r.solver)

        def step(x, table=table):
            data = gaussian.posterior_mean(x, table.alpha.reshape(1, 1), table.sigma.reshape(1, 1))
            return table.held_data * x + table.data_gain * data

        np.testing.assert_allclose(found[row], jax.jvp(step, (flat,), (direction,))[1], rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("memory", [1, 2])
def test_a_corrected_jacobian_says_what_the_last_round_showed(case, memory):
    """A s = F(x) - F(x') for the newest pair, whatever A was."""
    rule = slopes.Slopes(case, None, memory)
    r = case.recurrence
    kept = rule.begin(r)
    keys = jax.random.split(jax.random.key(1), 2)
    pairs = {
        name: jax.random.normal(key, kept.moved.shape) for name, key in zip(("moved", "changed"), keys, strict=True)
    }
    if memory == 2:  # at right angles the second update leaves what the first one said
        newest, older = pairs["moved"]
        along = jnp.sum(newest * older, axis=-1, keepdims=True) / jnp.sum(newest**2, axis=-1, keepdims=True)
        pairs["moved"] = jnp.stack([newest, older - along * newest])
    kept = kept._replace(**pairs)
    matrix = slopes._corrected(slopes._jacobian(r, kept.gaussian, kept.x), kept)
    for moved, changed in zip(kept.moved, kept.changed, strict=True):
        np.testing.assert_allclose(matrix.times(kept.gaussian, moved), changed, atol=2e-3)


def test_every_variant_is_near_the_sequential_sample_long_before_its_last_row(case):
    for name, (start, rule) in slope_study.variants(case, case).items():
        estimates = [estimate for _, estimate in zip(range(16), iterate(case, rule, start), strict=False)]
        assert pcm.metrics.rms_error(estimates[-1].sample, case.exact) < 1e-2, name


def test_a_measured_slope_leaves_nothing_along_the_errors(case):
    """The normal equation of least squares; nothing is known of the first row, whose state is exact."""
    r, start = case.recurrence, copies(case.recurrence)
    table = slope_study.least_squares(case, start)
    assert table.shape == (len(r), 1) and table[0] == 1
    options = {"cond": r.cond, "step_noise": r.step_noise, "return_trajectory": True}
    exact = pcm.sample_sequential(r.model_fn, r.params, r.noise, r.solver, **options).trajectory
    off, ahead = start.states[:-1] - exact[:-1], r.steps(start.states[:-1]) - exact[1:]
    left = ahead - table.reshape(-1, 1, 1, 1, 1) * off
    axes = tuple(range(1, off.ndim))
    scale = jnp.sqrt(jnp.sum(off**2, axis=axes) * jnp.sum(ahead**2, axis=axes))
    assert np.max(np.abs(jnp.sum(left * off, axis=axes)[1:] / scale[1:])) < 1e-4


def test_command_and_table(tmp_path):
    config = slope_study.SlopeStudy(models=("digits",), samples=2, out=tmp_path)
    stream = io.StringIO()
    slope_study.run_slopes(config, Console(file=stream, width=160))
    kept = json.loads((tmp_path / "slopes.json").read_text())
    assert {cell["solver"] for cell in kept["cells"]} == {"DDIM-50", "DDPM-100"} and len(kept["cells"]) == 20
    assert "digits DDPM-100" in stream.getvalue()
    assert f"| {slope_study.SHIPS} |" in tables.slopes(kept)
    with pytest.raises(ValueError, match="there is no 'mnist'; choose among digits"):
        slope_study.run_slopes(slope_study.SlopeStudy(models=("mnist",), out=tmp_path), Console(file=stream))
