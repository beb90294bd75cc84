"""FID's network with random weights against pytorch-fid's own (made by reference/make_inception.py)."""

import json
from pathlib import Path

import numpy as np
import pytest

from pcm_jax.metrics import inception, load_inception
from pcm_jax.metrics.features import batched
from tests.reference import random_inception

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "inception.npz")
SHAPES = json.loads(str(REFERENCE["shapes"]))


@pytest.fixture(scope="module")
def state():
    return {key: random_inception.weight(key, tuple(shape)) for key, shape in SHAPES.items()}


def test_features_are_pytorch_fids(state):
    features = batched(inception._network, inception.folded(state, "state"), batch_size=2)
    found, wanted = features(random_inception.pictures()), REFERENCE["features"]
    assert found.shape == (3, inception.DIMENSIONS) and found.dtype == np.float32
    assert np.std(wanted, axis=0).mean() > 0.01, "the features tell the pictures apart"
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.max(np.abs(wanted)))


def test_other_networks_are_refused(state, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="there is no file"):
        load_inception(tmp_path / "none.pth")
    monkeypatch.setattr(inception, "load_state_dict", lambda path: state | {"fc.bias": np.zeros(1000, np.float32)})
    with pytest.raises(ValueError, match=r"w\.pth is not FID's Inception: it has 1000 classes instead of 1008"):
        load_inception(tmp_path / "w.pth")
    monkeypatch.setattr(inception, "load_state_dict", lambda path: {"conv1.weight": np.zeros((1, 1, 1, 1))})
    with pytest.raises(ValueError, match=r"is not FID's Inception: 'Conv2d_1a_3x3.bn.weight' is missing"):
        load_inception(tmp_path / "w.pth")
    monkeypatch.setattr(inception, "load_state_dict", lambda path: state)
    with pytest.raises(ValueError, match="images must be uint8"):
        load_inception(tmp_path / "w.pth")(np.zeros((1, 8, 8, 3), np.float32))
