"""Tensors of an old-format `.pth` file without unpickling it.

Unpickling runs whatever the file says. A state dict needs two dozen opcodes of the pickle language and two functions;
the reader below knows these, calls nothing, and refuses a file with anything else in it. `pickletools` only decodes.
"""

from __future__ import annotations

import io
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.float32, "DoubleStorage": np.float64, "LongStorage": np.int64, "IntStorage": np.int32}
_MARK = object()


def load_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a legacy (before PyTorch 1.6) `torch.save(module.state_dict())`.

    Raises:
        ValueError: no such file, another format, truncated, or one that holds more than a state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    with path.open("rb") as file:
        try:
            if _read(file) != _MAGIC:
                raise ValueError("it does not begin like one")
            _read(file)  # protocol
            _read(file)  # byte order and sizes of the machine that wrote it
            state, keys = _read(file), _read(file)
            storages = {}
            for key in keys:
                (count,) = struct.unpack("<q", file.read(8))
                dtype = np.dtype(_storage_dtype(state, key))
                content = file.read(count * dtype.itemsize)
                if len(content) != count * dtype.itemsize:
                    raise ValueError("it ends before its tensors do")
                storages[key] = np.frombuffer(content, dtype)
            return {name: tensor.array(storages) for name, tensor in state.items()}
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
            raise ValueError(f"{path} is no state dict in PyTorch's old format: {error}") from error


class _Tensor:
    """Arguments of torch._utils._rebuild_tensor_v2."""

    def __init__(self, storage: tuple[Any, ...], offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
        self.kind, self.key = storage[1].rsplit(" ", 1)[-1], storage[2]
        self.offset, self.size, self.stride = offset, size, stride

    def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        storage = storages[self.key][self.offset :]
        last = sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))
        if self.size and (min(self.size) < 1 or min(self.stride) < 0 or last >= len(storage)):
            raise ValueError("a tensor lies outside its storage")
        steps = tuple(stride * storage.itemsize for stride in self.stride)
        return np.lib.stride_tricks.as_strided(storage, self.size, steps).copy()


def _storage_dtype(state: dict[str, _Tensor], key: str) -> type:
    return _DTYPES[next(tensor.kind for tensor in state.values() if tensor.key == key)]


def _read(file: io.BufferedReader) -> Any:
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
            stack[-1].update(zip(entries[::2], entries[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(argument)  # the name alone, as text
        elif name == "BINPERSID":
            pass  # the description of a storage stays where it is
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            if function == "collections OrderedDict":
                stack.append({})
            elif function == "torch._utils _rebuild_tensor_v2":
                stack.append(_Tensor(*arguments[:4]))
            else:
                raise ValueError(f"it asks to call {function!r}, which a state dict has no need of")
        elif name == "BUILD":
            stack.pop()  # attributes of the OrderedDict, such as its version numbers
        else:
            raise ValueError(f"it holds the opcode {name}, which a state dict has no need of")
    raise ValueError("it ends in mid-pickle")
