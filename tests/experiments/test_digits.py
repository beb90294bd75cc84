import json

import numpy as np
import pytest
import tyro

from experiments.common.figures import RESULTS
from experiments.models import digits
from experiments.models.base_quality import quality
from pcm_jax import pretrained
from pcm_jax.data.sources import ImageSource


@pytest.mark.fast
def test_the_command_line_has_both_commands():
    assert tyro.cli(digits.Command, args=["train", "--steps", "7", "--no-resume"]) == digits.Train(
        steps=7, resume=False
    )
    assert tyro.cli(digits.Command, args=["sample", "--guidance", "2"]) == digits.Sample(guidance=2.0)


def source(images, labels):
    return ImageSource("toy", images, labels, 2, 16)


def test_quality_tells_copies_and_wrong_labels_from_new_digits():
    random = np.random.default_rng(0)
    labels = np.arange(80, dtype=np.int32) % 2
    images = (labels[:, None, None, None] * 10 + random.integers(0, 6, (80, 8, 8, 1))).astype(np.uint8)
    train, test = source(images[:40], labels[:40]), source(images[40:60], labels[40:60])
    fresh = quality(source(images[60:], labels[60:]).scaled(), labels[60:], train, test)
    assert fresh["accuracy"] == fresh["accuracy_real"] == 1
    assert 0.9 < fresh["nearest"] < 1.1 and 0.9 < fresh["spread"] < 1.1
    assert quality(train.scaled(), labels[:40], train, test)["nearest"] < 1e-3
    assert quality(train.scaled(), 1 - labels[:40], train, test)["accuracy"] == 0


def test_the_shipped_card_and_results_are_of_one_run():
    model = pretrained.load("digits")
    result = json.loads((RESULTS / "digits_train.json").read_text())
    assert result["parameters"] == model.config.parameters
    for number in (
        f"{result['heldout_loss']:.4f}",
        f"{result['quality']['accuracy']:.1%}",
        f"{result['seconds']:.0f} s",
    ):
        assert number in model.card
    assert {"config", "versions", "device", "seed", "curve"} <= set(result)
    shipped = digits.Train()
    assert {name: result["config"][name] for name in ("steps", "width", "depth", "seed")} == {
        name: getattr(shipped, name) for name in ("steps", "width", "depth", "seed")
    }
