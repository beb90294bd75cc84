import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro

import pcm_jax as pcm
from experiments.common.figures import RESULTS
from experiments.models import emoji
from pcm_jax import pretrained


@pytest.mark.fast
def test_the_command_line_has_both_commands():
    assert tyro.cli(emoji.Command, args=["train", "--steps", "7"]) == emoji.Train(steps=7)
    assert tyro.cli(emoji.Command, args=["sample", "--guidance", "2"]) == emoji.Sample(guidance=2.0)


def test_the_shipped_card_and_results_are_of_one_run():
    model = pretrained.load("emoji32")
    result = json.loads((RESULTS / "emoji32_train.json").read_text())
    assert result["parameters"] == model.config.parameters and model.num_classes == 10
    for number in (f"{result['heldout_loss']:.4f}", f"{result['quality']['accuracy']:.1%}"):
        assert number in model.card
    for licence in ("Apache-2.0", "CC-BY-4.0", "MIT"):
        assert licence in model.card
    mine = emoji.Train()
    for name in ("steps", "batch_size", "prediction", "patch", "seed"):
        assert result["config"][name] == getattr(mine, name)
    assert model.prediction == mine.prediction


@pytest.mark.slow
def test_the_shipped_model_draws_in_colour_and_round_by_round_what_it_draws_step_by_step():
    model = pretrained.load("emoji32")
    solver = pcm.solvers.ddim(model.schedule, 20, prediction=model.prediction, clip=model.clip)
    noise = jax.random.normal(jax.random.key(0), (2, *model.sample_shape))
    labels = jnp.array([0, 9])
    exact = pcm.sample_sequential(model.model_fn, model.params, noise, solver, cond=labels)
    out = pcm.sample_picard(model.model_fn, model.params, noise, solver, cond=labels, tol=1e-4)
    assert np.asarray(out.converged).all()
    np.testing.assert_allclose(out.sample, exact.sample, atol=0.02)
    red, green, blue = np.moveaxis(np.asarray(exact.sample), -1, 0)
    assert np.abs(red - blue).mean() > 0.1 and np.abs(red - green).mean() > 0.02
