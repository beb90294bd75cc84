"""The latent model: its two trainings on a few pictures, and the folder that ships."""

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from experiments.common.figures import RESULTS
from experiments.models.latent import autoencoder, denoiser
from pcm_jax.data.sources import ImageSource
from pcm_jax.pretrained import FOLDERS
from pcm_jax.pretrained.diffusers import load_pipeline

SHIPPED = FOLDERS / "emoji32-latent"
QUIET = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def shipped():
    return load_pipeline(SHIPPED)


@pytest.fixture
def pictures(monkeypatch):
    """Sixteen squares of one colour each, in two classes."""
    colour = np.random.default_rng(0).integers(0, 256, (16, 1, 1, 3))
    images = np.broadcast_to(colour, (16, 16, 16, 3)).astype(np.uint8)
    source = ImageSource("toy", images, np.arange(16, dtype=np.int32) % 2, 2, 255)
    written = {}
    for module in (autoencoder, denoiser):
        monkeypatch.setattr(module, "load_source", lambda name, split: source)
        monkeypatch.setattr(module, "write_result", lambda name, payload, **_: written.update({name: payload}))
    return written


@pytest.mark.slow
def test_both_trainings_make_a_folder_that_can_be_sampled(pictures, tmp_path, monkeypatch):
    written = pictures
    monkeypatch.setattr(denoiser, "quality", lambda images, labels, *_: {"shape": list(images.shape)})
    folder = tmp_path / "model"
    small = {"steps": 3, "batch_size": 4, "folder": folder}
    coder = autoencoder.TrainAutoencoder(channels=(8, 8), latents=2, crop=8, out=tmp_path / "a", **small)
    autoencoder.run_autoencoder(coder, QUIET)
    assert list(written["latent_autoencoder"]["latent_shape"]) == [8, 8, 2]
    # Latents are scaled to the unit variance that the schedule expects, measured where it is trained.
    assert written["latent_autoencoder"]["latent_std"] == pytest.approx(1, rel=1e-2)
    few = denoiser.TrainDenoiser(channels=(8, 16), judged=4, out=tmp_path / "d", **small)
    denoiser.run_denoiser(few, QUIET)
    assert written["latent_denoiser"]["quality"]["shape"] == [4, 16, 16, 3]
    pipeline = load_pipeline(folder)
    assert pipeline.denoiser.config["num_class_embeds"] == 3, "two classes and the null label"
    shown = denoiser.SampleLatent(folder=folder, out=tmp_path / "grid.png", rows=1, steps=2)
    assert denoiser.run_sample(shown, QUIET).stat().st_size > 1_000


def test_crops_are_squares_of_their_own_pictures():
    x = jnp.arange(3.0)[:, None, None, None] + jnp.arange(64.0).reshape(8, 8)[None, :, :, None] / 64
    crops = np.asarray(autoencoder._crops(x, 4, denoiser.jax.random.key(0)))
    assert crops.shape == (3, 4, 4, 1) and (np.floor(crops[:, 0, 0, 0]) == [0, 1, 2]).all()
    np.testing.assert_allclose(np.diff(crops, axis=2), 1 / 64, atol=1e-6)
    np.testing.assert_allclose(np.diff(crops, axis=1), 8 / 64, atol=1e-6)


def test_the_shipped_autoencoder_and_denoiser_are_those_of_the_results(shipped):
    coder = json.loads((RESULTS / "latent_autoencoder.json").read_text())
    net = json.loads((RESULTS / "latent_denoiser.json").read_text())
    assert sum(leaf.size for leaf in denoiser.jax.tree.leaves(shipped.autoencoder.params)) == coder["parameters"]
    assert sum(leaf.size for leaf in denoiser.jax.tree.leaves(shipped.denoiser.params)) == net["parameters"]
    assert list(shipped.denoiser.sample_shape) == coder["latent_shape"]
    assert coder["rms_error"] < 0.4 * coder["rms_of_images"]
    assert all(path.stat().st_size < 4e6 for path in SHIPPED.rglob("*.safetensors"))


@pytest.mark.slow
def test_the_shipped_model_draws_pictures_on_white_that_differ_by_class(shipped):
    images = denoiser.draw(shipped, np.arange(10), steps=10, guidance=2.0, seed=3)
    assert images.shape == (10, 32, 32, 3) and np.isfinite(images).all()
    # Emoji stand in the middle of a white square; flags and symbols reach its edges.
    faces = images[0]
    assert faces[[0, 0, -1, -1], [0, -1, 0, -1]].mean() > 0.8 > faces[12:20, 12:20].mean()
    spread = images.reshape(10, -1).std(axis=0).mean()
    assert spread > 0.2, "ten classes, ten pictures"
