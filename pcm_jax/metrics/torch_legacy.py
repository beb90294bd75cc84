"""Tensors of an old-format `.pth` file without unpickling it.

Unpickling runs whatever the file says. A state dict needs two dozen opcodes of the pickle language and two functions;
the reader below knows these, calls nothing, and refuses a file with anything else in it. `pickletools` only decodes.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pcm_jax.files import reads

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "torch FloatStorage": np.float32,
    "torch DoubleStorage": np.float64,
    "torch LongStorage": np.int64,
    "torch IntStorage": np.int32,
}
_REFUSED = (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, struct.error)
_MARK = object()


@reads("path")
def load_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a legacy (before PyTorch 1.6) `torch.save(module.state_dict())`.

    Raises:
        ValueError: no such file, another format, truncated, numbers that are NaN or infinite, or one that holds more
            than a state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    # In memory, so that a length that a damaged file claims reads what is there and allocates nothing.
    file = io.BytesIO(path.read_bytes())
    try:
        if _read(file) != _MAGIC:
            raise ValueError("it does not begin like one")
        _read(file)  # protocol
        _read(file)  # byte order and sizes of the machine that wrote it
        state, keys = _read(file), _read(file)
        storages = {}
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            dtype = _dtype(state, key)
            content = file.read(count * dtype.itemsize)
            if len(content) != count * dtype.itemsize:
                raise ValueError("it ends before its tensors do")
            storages[key] = np.frombuffer(content, dtype)
        found = {name: tensor.array(storages) for name, tensor in state.items()}
        for name, array in found.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name!r} has values that are NaN or infinite; copy the file again")
        return found
    except _REFUSED as error:
        raise ValueError(f"{path} is no state dict in PyTorch's old format: {error}") from error


class _Storage(NamedTuple):
    """What a persistent id says: the class, by name, and the key under which its numbers follow."""

    kind: str
    key: str

    @classmethod
    def of(cls, persistent_id: tuple[Any, ...]) -> _Storage:
        tag, kind, key, *_, view = persistent_id
        # Strings first: the hash of a tuple nested deep enough would end the process.
        if not (isinstance(kind, str) and isinstance(key, str)) or tag != "storage" or kind not in _DTYPES:
            raise ValueError(f"a tensor is in no storage of {', '.join(_DTYPES)}")
        if view is not None:
            raise ValueError("a storage is a view of another one; save the tensors cloned")
        return cls(kind, key)


class _Tensor(NamedTuple):
    """Arguments of torch._utils._rebuild_tensor_v2."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def array(self, storages: Mapping[str, np.ndarray]) -> np.ndarray:
        storage = storages[self.storage.key]
        short = math.prod(self.size) > len(storage) - self.offset
        if short or min((self.offset, *self.size, *self.stride)) < 0:
            raise ValueError("a tensor lies outside its storage")
        steps = tuple(stride * storage.itemsize for stride in self.stride)
        # np.ndarray, unlike as_strided, checks that the strides stay inside the buffer.
        return np.ndarray(self.size, storage.dtype, storage.data, self.offset * storage.itemsize, steps).copy()


def _dtype(state: Mapping[str, _Tensor], key: str) -> np.dtype[Any]:
    kinds = {tensor.storage.kind for tensor in state.values() if tensor.storage.key == key}
    if len(kinds) != 1:
        raise ValueError(f"a storage belongs to tensors of {len(kinds)} types, not of one")
    return np.dtype(_DTYPES[kinds.pop()])


def _read(file: io.BytesIO) -> Any:
    """Interpret one pickle as data."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def to_mark() -> list[Any]:
        at = max(index for index, entry in enumerate(stack) if entry is _MARK)
        entries = stack[at + 1 :]
        del stack[at:]
        return entries

    for opcode, argument, _ in pickletools.genops(file):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack[-1]
        if name == "MARK":
            stack.append(_MARK)
        elif name in ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"):
            stack.append(argument)
        elif name in ("NEWTRUE", "NEWFALSE", "NONE"):
            stack.append({"NEWTRUE": True, "NEWFALSE": False, "NONE": None}[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "TUPLE":
            stack.append(tuple(to_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("APPENDS", "APPEND"):
            entries = to_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(entries)
        elif name in ("SETITEMS", "SETITEM"):
            entries = to_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            if not all(isinstance(key, str) for key in entries[::2]):
                raise ValueError("it holds a key that is no name")
            stack[-1].update(zip(entries[::2], entries[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(argument)  # the name alone, as text
        elif name == "BINPERSID":
            stack.append(_Storage.of(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            if function == "collections OrderedDict" and arguments == ():
                stack.append({})
            elif function == "torch._utils _rebuild_tensor_v2" and isinstance(arguments[0], _Storage):
                stack.append(_Tensor(*arguments[:4]))
            else:
                what = repr(function) if isinstance(function, str) else f"a {type(function).__name__}"
                raise ValueError(f"it asks to call {what} in a way that a state dict has no need of")
        elif name == "BUILD":
            stack.pop()  # attributes of the OrderedDict, such as its version numbers
        else:
            raise ValueError(f"it holds the opcode {name}, which a state dict has no need of")
    raise ValueError("it ends in mid-pickle")
