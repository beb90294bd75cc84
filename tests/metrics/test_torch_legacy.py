"""The reader of old .pth files: what a state dict needs, and nothing else, whatever the file says."""

import numpy as np
import pytest

from experiments.campaigns.pth import NESTED, ORDERED_DICT, file_of, legacy
from pcm_jax.metrics import efficientnet
from pcm_jax.metrics.torch_legacy import load_state_dict


def test_a_tensor_by_hand(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(file_of())
    np.testing.assert_array_equal(load_state_dict(path)["w"], [[1, 2], [3, 4]])
    path.write_bytes(file_of(b"K\x05))"))
    np.testing.assert_array_equal(load_state_dict(path)["w"], np.float32(5))
    with pytest.raises(ValueError, match=r"is not EfficientNet-Lite0: '_bn0\.weight' is missing"):
        efficientnet.load_features(path)
    with pytest.raises(ValueError, match="there is no file"):
        load_state_dict(tmp_path / "nowhere.pth")


REFUSED = {
    "a call": (legacy(b"cos\nsystem\nX\4\0\0\0true\x85R"), "asks to call 'os system'"),
    "a call by another opcode": (legacy(b"(i__builtin__\neval\n"), "holds the opcode INST"),
    "a call of something nested": (legacy(NESTED + b")R"), "asks to call a tuple"),
    "an OrderedDict of arguments": (legacy(ORDERED_DICT + b"]\x85R"), "asks to call 'collections OrderedDict'"),
    "a nested name": (file_of(name=NESTED), "a key that is no name"),
    "a nested storage class": (file_of(kind=NESTED), "in no storage of torch FloatStorage"),
    "a nested storage key": (file_of(key=NESTED), "in no storage of torch FloatStorage"),
    "another module's storage": (file_of(kind=b"cos\nFloatStorage\n"), "in no storage of torch FloatStorage"),
    "a view of a storage": (file_of(view=b"X\1\0\0\0vK\2K\2\x87"), "is a view of another one"),
    "a tensor too large": (file_of(b"K\1K\4K\2\x86K\2K\1\x86"), "outside its storage"),
    "a number behind the end": (file_of(b"K\6))"), "outside its storage"),
    "a negative offset": (file_of(b"J\xfe\xff\xff\xffK\2\x85K\1\x85"), "outside its storage"),
    "strides past the end": (file_of(b"K\1K\2K\2\x86K\5K\1\x86"), "strides"),
    "one number repeated": (file_of(b"K\0J\0\xca\x9a\x3b\x85K\0\x85"), "outside its storage"),
    "a storage cut short": (file_of()[:-4], "ends before its tensors do"),
    "a storage of 2^45 numbers": (file_of(count=2**45), "ends before its tensors do"),
    "a storage of 2^62 numbers": (file_of(count=2**62), "cannot fit"),
    "a storage of -1 numbers": (file_of(count=-1), "ends before its tensors do"),
    "cut in a pickle": (file_of()[:90], "is no state dict in PyTorch's old format"),
    "a zip file": (b"PK\3\4 a zip file", "is no state dict in PyTorch's old format"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name):
    content, complaint = REFUSED[name]
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=complaint):
        load_state_dict(path)


# pickletools decodes a text opcode, and may warn of its escapes, before the reader sees the opcode and refuses it.
@pytest.mark.filterwarnings("ignore:invalid (octal )?escape sequence:DeprecationWarning")
def test_damaged_files_raise_nothing_else(tmp_path):
    random, path, whole = np.random.default_rng(0), tmp_path / "weights.pth", file_of()
    refused = 0
    for _ in range(500):
        damaged = bytearray(whole)
        for at in random.integers(len(damaged), size=3):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        try:
            load_state_dict(path)
        except ValueError:
            refused += 1
    assert refused > 250
