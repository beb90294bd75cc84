import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax.solvers.build import to_data
from pcm_jax.solvers.grid import make_grid
from pcm_jax.training import denoising
from pcm_jax.training.denoising import denoising_loss
from tests import problems

SCHEDULES = {"epsilon": problems.VP, "data": problems.VP, "v": problems.VP}
SCHEDULES |= {"velocity": problems.FLOW, "edm": problems.EDM}
each_prediction = pytest.mark.parametrize("prediction", SCHEDULES)
MEAN, SCALE, DIMS = (1.0, -0.5, 2.0), 0.7, 3


@pytest.mark.fast
@each_prediction
def test_solvers_read_the_target_as_the_clean_data(prediction):
    grid = make_grid(SCHEDULES[prediction], 10, None)
    x0, eps = np.random.default_rng(0).normal(size=(2, 10, DIMS))
    alpha, sigma = grid.alpha[:-1, None], grid.sigma[:-1, None]
    said = denoising.target(prediction, grid.schedule, x0, eps, alpha, sigma)
    u, w, m = to_data(prediction, grid)
    np.testing.assert_allclose(u[:, None] * (alpha * x0 + sigma * eps) + w[:, None] * said, x0, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(denoising.input_scale(prediction, grid.schedule, sigma)[:, 0], m, rtol=1e-5)


class Oracle:
    """The best prediction of N(MEAN, SCALE^2) there is, by way of the exact data prediction."""

    def __init__(self, prediction, schedule):
        self.prediction, self.schedule = prediction, schedule
        self.exact = problems.gaussian(schedule, MEAN, SCALE)

    def __call__(self, params, x, t, cond):
        alpha, sigma = (jnp.asarray(v, x.dtype)[:, None] for v in self.schedule.marginals(t))
        x = x / denoising.input_scale(self.prediction, self.schedule, sigma)
        data = self.exact(params, x, t, cond)
        return denoising.target(self.prediction, self.schedule, data, (x - alpha * data) / sigma, alpha, sigma)


@each_prediction
def test_the_loss_of_the_best_denoiser_is_the_posterior_variance(prediction):
    """Var[x_0 | x] = s^2 sigma^2 / (alpha^2 s^2 + sigma^2); each prediction is x_0 times 1 / w plus a known part."""
    schedule, size = SCHEDULES[prediction], 20_000
    noise_key, key = jax.random.split(jax.random.key(3))
    x0 = jnp.asarray(MEAN)[None] + SCALE * jax.random.normal(noise_key, (size, DIMS))
    loss, metrics = denoising_loss({}, Oracle(prediction, schedule), schedule, {"x": x0}, key, prediction=prediction)
    t = np.asarray(schedule.sample_times(jax.random.key(9), 400_000), np.float64)
    alpha, sigma = schedule.marginals(t)
    variance = SCALE**2 * sigma**2 / (alpha**2 * SCALE**2 + sigma**2)
    data = schedule.sigma_data
    per_data = {
        "epsilon": alpha / sigma,
        "data": 1.0,
        "v": (alpha**2 + sigma**2) / sigma,
        "velocity": (alpha + sigma) / sigma,
        "edm": np.sqrt(sigma**2 + data**2) / (sigma * data),
    }[prediction]
    np.testing.assert_allclose(loss, np.mean(variance * per_data**2), rtol=0.05)
    np.testing.assert_allclose((metrics["loss_noisy"] + metrics["loss_clean"]) / 2, loss, rtol=0.01)


def test_any_other_prediction_costs_more():
    oracle, x0 = Oracle("epsilon", problems.VP), SCALE * jax.random.normal(jax.random.key(0), (4000, DIMS))
    batch, key = {"x": x0 + jnp.asarray(MEAN)[None]}, jax.random.key(1)
    best = denoising_loss({}, oracle, problems.VP, batch, key)[0]
    for factor in (0.95, 1.05):
        worse = denoising_loss({}, lambda *a, f=factor: f * oracle(*a), problems.VP, batch, key)[0]
        assert worse > best


def test_label_dropout_drops_its_share_and_labels_reach_the_network():
    def says_null(params, x, t, cond):
        return jnp.broadcast_to((cond == 7).astype(x.dtype)[:, None], x.shape)

    batch = {"x": jnp.zeros((20_000, 1)), "label": jnp.full(20_000, 2)}

    def share(**options):
        key = jax.random.key(0)
        return denoising_loss({}, says_null, problems.VP, batch, key, prediction="data", **options)[0]

    assert share() == 0
    assert abs(share(label_dropout=0.1, null_label=7) - 0.1) < 0.01
    assert share(label_dropout=1.0, null_label=7) == 1


def test_the_network_gets_exactly_the_sampled_times():
    seen = []

    def spy(params, x, t, cond):
        seen.append(t)
        return x

    denoising_loss({}, spy, problems.VP, {"x": jnp.zeros((64, 2))}, jax.random.key(0))
    (t,) = seen
    assert t.dtype == jnp.float32 and t.shape == (64,)
    np.testing.assert_array_equal(t, jnp.round(t))
    assert t.min() >= 0 and t.max() <= 999


def test_bad_arguments_are_named():
    batch = {"x": jnp.zeros((4, 2)), "label": jnp.zeros(4, jnp.int32)}
    with pytest.raises(ValueError, match="needs null_label"):
        denoising_loss({}, problems.mlp, problems.VP, batch, jax.random.key(0), label_dropout=0.1)
    with pytest.raises(ValueError, match="unknown prediction 'score'; choose one of epsilon, data"):
        denoising_loss({}, lambda p, x, t, c: x, problems.VP, batch, jax.random.key(0), prediction="score")
