import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax import pretrained
from pcm_jax.guidance import classifier_free
from pcm_jax.pretrained import WEIGHTS


@pytest.fixture(scope="module")
def digits():
    return pretrained.load("digits")


@pytest.fixture
def copy(tmp_path):
    for suffix in ("safetensors", "json", "md"):
        shutil.copy(WEIGHTS / f"digits.{suffix}", tmp_path)
    return tmp_path


@pytest.mark.fast
def test_the_card_and_the_configuration_describe_the_weights(digits):
    count = sum(leaf.size for leaf in jax.tree.leaves(digits.params))
    assert digits.config.parameters == count and f"{count:,} parameters" in digits.card
    assert "python -m experiments.models.digits train" in digits.card
    assert (WEIGHTS / "digits.safetensors").stat().st_size < 3e6
    assert pretrained.available() == ("digits", "emoji32", "fashion")


def test_samples_are_digits_of_their_class(digits):
    """Nearest class mean of the real digits reads most of them; it reads about 90 % of real ones."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    means = np.stack([bunch.images[bunch.target == label].mean(0).ravel() for label in range(10)]) / 8 - 1
    labels = np.arange(100) % 10
    noise = jax.random.normal(jax.random.key(0), (100, *digits.sample_shape))
    solver = pcm.solvers.ddim(digits.schedule, 20, prediction=digits.prediction, clip=digits.clip)
    for model_fn, least in ((digits.model_fn, 0.7), (classifier_free(digits.model_fn, 2.0, digits.num_classes), 0.85)):
        out = pcm.sample_sequential(model_fn, digits.params, noise, solver, cond=jnp.asarray(labels))
        flat = np.asarray(out.sample).reshape(100, -1)
        read = np.argmin(np.sum((flat[:, None] - means[None]) ** 2, -1), axis=1)
        assert np.mean(read == labels) > least


def test_two_loads_give_the_same_function(digits):
    again = pretrained.load("digits")
    assert again.model_fn == digits.model_fn and hash(again.model_fn) == hash(digits.model_fn)
    assert again.schedule == digits.schedule


def test_export_and_load_round_trip(digits, tmp_path):
    config = dataclasses.replace(digits.config, name="mine")
    pretrained.export(digits.params, config, "# mine", tmp_path)
    mine = pretrained.load("mine", tmp_path)
    assert (mine.config, mine.card) == (config, "# mine")
    jax.tree.map(np.testing.assert_array_equal, mine.params, digits.params)
    size = (tmp_path / "mine.safetensors").stat().st_size
    pretrained.export(digits.params, config, "# mine", tmp_path, storage=jnp.bfloat16)
    jax.tree.map(np.testing.assert_array_equal, pretrained.load("mine", tmp_path).params, digits.params)
    assert (tmp_path / "mine.safetensors").stat().st_size < 0.55 * size, "what was rounded once stays what it is"


def edit(folder, **changes):
    content = json.loads((folder / "digits.json").read_text())
    (folder / "digits.json").write_text(json.dumps(content | changes))


def test_bad_files_are_named(copy):
    with pytest.raises(ValueError, match=r"there is no model 'celeba' in .*; choose one of digits"):
        pretrained.load("celeba", copy)
    edit(copy, network={"name": "mlp", "width": 256, "depth": 5, "num_classes": 10})
    with pytest.raises(ValueError, match=r"digits.safetensors does not hold .*: 'block_4/dense_in/bias' is missing"):
        pretrained.load("digits", copy)
    edit(copy, network={"name": "mlp", "width": 256, "depth": 4, "num_classes": 10}, schedule={"name": "sqrt"})
    with pytest.raises(ValueError, match="unknown schedule 'sqrt'; choose one of linear_vp"):
        pretrained.load("digits", copy)
    edit(copy, prediction="score")
    with pytest.raises(ValueError, match="digits: unknown prediction 'score'"):
        pretrained.load("digits", copy)
    edit(copy, prediction="epsilon", colour="grey")
    with pytest.raises(ValueError, match=r"digits.json is no model configuration .*colour"):
        pretrained.load("digits", copy)
    (copy / "digits.json").write_text("{")
    with pytest.raises(ValueError, match=r"digits.json is no JSON"):
        pretrained.load("digits", copy)
