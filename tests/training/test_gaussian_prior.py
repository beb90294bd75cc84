"""A prior from a model alone: its moments, and runs that were stopped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax.training import fit_prior_from_model
from tests import problems

pytestmark = pytest.mark.fast

MEAN, SCALE = (1.0, -0.5, 2.0), 0.7


def gaussian(params, x, t, cond):
    """Data predictions of N(MEAN + params cond, SCALE^2), cond a label or an observation of one number."""
    alpha, sigma = (jnp.asarray(value)[:, None] for value in problems.VP.marginals(t))
    shift = jnp.zeros(len(x)) if cond is None else params * cond.reshape(len(x)).astype(x.dtype)
    mean = jnp.asarray(MEAN)[None] + shift[:, None]
    return mean + alpha * SCALE**2 / (alpha**2 * SCALE**2 + sigma**2) * (x - alpha * mean)


def fit(**options):
    how = {"num_samples": 300, "num_steps": 10, "prediction": "data", "batch_size": 100, "progress": False, "rank": 2}
    return fit_prior_from_model(gaussian, jnp.float32(0.5), problems.VP, (3,), **how | options)


def same(a, b):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, a, b)))


def test_moments_of_every_kind():
    pooled = fit(num_steps=100)
    np.testing.assert_allclose(pooled.mean[0], MEAN, atol=0.15)
    np.testing.assert_allclose(pooled.variances[0], SCALE**2, atol=0.15)
    by_class = fit(num_classes=2)
    np.testing.assert_allclose(by_class.mean[1] - by_class.mean[0], 0.5, atol=0.25)
    assert by_class.kind == "class" and by_class.num_classes == 2
    seen = np.linspace(-2, 2, 50).reshape(50, 1, 1)
    observed = fit(observations=seen)
    np.testing.assert_allclose(observed.weights, 0.5, atol=0.15)


def test_a_stopped_run_goes_on_and_a_damaged_part_is_drawn_again(tmp_path):
    whole = fit(num_classes=2, directory=tmp_path)
    assert same(whole, fit(num_classes=2)) and not same(whole, fit(num_classes=2, seed=1))
    paths = sorted(tmp_path.iterdir())
    assert [path.name for path in paths] == [f"samples-{number:05d}.npz" for number in range(3)]
    paths[1].unlink()
    paths[2].write_bytes(paths[2].read_bytes()[:200])
    kept = paths[0].stat().st_mtime_ns
    assert same(whole, fit(num_classes=2, directory=tmp_path))
    assert paths[0].stat().st_mtime_ns == kept and sorted(tmp_path.iterdir()) == paths
    paths[0].write_bytes(b"")
    assert same(whole, fit(num_classes=2, directory=tmp_path))


def test_parts_of_other_settings(tmp_path):
    fit(directory=tmp_path)
    for options in ({"seed": 1}, {"num_steps": 9}, {"num_classes": 2}, {"observations": np.zeros((5, 1))}):
        with pytest.raises(ValueError, match="in another folder"):
            fit(directory=tmp_path, **options)
    fit(directory=tmp_path, rank=3)  # the same samples


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"num_classes": 2, "observations": np.zeros((5, 1))}, "give one of them"),
        ({"num_classes": 200}, "draw more of it"),
        ({"num_steps": 0}, "num_steps"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        fit(**options)
