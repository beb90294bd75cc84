"""A state dict in PyTorch's format before 1.6, by hand: good ones, and ones that ask for more than they may."""

from __future__ import annotations

import struct

ORDERED_DICT = b"ccollections\nOrderedDict\n"
FLOAT = b"ctorch\nFloatStorage\n"
NESTED = b"N" + b"\x85" * 100_000  # ((((...)))), too deep to print or to hash
SLICE = b"K\x01K\x02K\x02\x86K\x02K\x01\x86"  # offset 1, size (2, 2), stride (2, 1)


def pickled(body: bytes) -> bytes:
    """One pickle."""
    return b"\x80\x02" + body + b"."


def legacy(state: bytes, keys: bytes = b"]") -> bytes:
    """The pickles of a file: magic number, protocol, machine, tensors, storages."""
    magic = pickled(b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19")
    return magic + pickled(b"K\x01") + pickled(b"}") + pickled(state) + pickled(keys)


def file_of(
    where: bytes = SLICE,
    *,
    kind: bytes = FLOAT,
    name: bytes = b"X\1\0\0\0w",
    key: bytes = b"X\1\0\0\x000",
    view: bytes = b"N",
    count: int = 6,
) -> bytes:
    """One tensor in a storage of the numbers 0 .. 5; `where`: its offset, size and stride."""
    storage = b"(X\7\0\0\0storage" + kind + key + b"X\3\0\0\0cpuK\x06" + view + b"tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + where + b"\x89}tR"
    state = ORDERED_DICT + b")R" + name + tensor + b"s"
    return legacy(state, b"](X\1\0\0\x000e") + struct.pack("<q6f", count, *range(6))
