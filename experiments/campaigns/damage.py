"""Ways in which a file goes bad, or is made bad on purpose."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Random = np.random.Generator
HUGE = 2**60

PICKLE = b"cos\nsystem\n(S'touch pickled'\ntR."
"""A pickle that runs a program when it is read."""


def _truncate(path: Path, rng: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(rng.integers(0, max(1, len(content))))])


def _flip(path: Path, rng: Random) -> None:
    """Up to 16 bits anywhere."""
    content = bytearray(path.read_bytes())
    for at in rng.integers(0, max(1, len(content)), int(rng.integers(1, 17))):
        content[int(at)] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(content))


def _flip_head(path: Path, rng: Random) -> None:
    """Up to 8 bits of the first 256 bytes, where headers are."""
    content = bytearray(path.read_bytes())
    for at in rng.integers(0, max(1, min(256, len(content))), int(rng.integers(1, 9))):
        content[int(at)] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(content))


def _swap_head(path: Path, rng: Random) -> None:
    """The first bytes of another kind of file."""
    content = path.read_bytes()
    heads = (
        b"\x89HDF\r\n\x1a\n",
        b"\x1f\x8b\x08",
        b"\x93NUMPY\x01\x00",
        b"PK\x03\x04",
        b"\x80\x02}q\x00",
        b"{}",
        b"\x00" * 16,
    )
    head = heads[int(rng.integers(len(heads)))]
    path.write_bytes(head + content[len(head) :])


def _length(path: Path, rng: Random) -> None:
    """A length of 2^60, little or big endian, at the start or somewhere."""
    content = path.read_bytes()
    at = 0 if rng.random() < 0.5 else int(rng.integers(0, max(1, len(content))))
    number = struct.pack("<Q" if rng.random() < 0.5 else ">Q", HUGE)
    path.write_bytes(content[:at] + number + content[at + 8 :])


def _empty(path: Path, rng: Random) -> None:
    path.write_bytes(b"")


def _remove(path: Path, rng: Random) -> None:
    path.unlink()


def _folder(path: Path, rng: Random) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, rng: Random) -> None:
    """To a file outside, to itself, or to nothing."""
    target = ("/etc/passwd", path.name, "/nowhere/at/all", "/dev/zero")[int(rng.integers(4))]
    path.unlink()
    path.symlink_to(target)


def _pickle(path: Path, rng: Random) -> None:
    path.write_bytes(PICKLE)


def _garbage(path: Path, rng: Random) -> None:
    path.write_bytes(rng.bytes(int(rng.integers(1, 5000))))


def _append(path: Path, rng: Random) -> None:
    path.write_bytes(path.read_bytes() + rng.bytes(64))


def _deep(path: Path, rng: Random) -> None:
    """JSON 100,000 levels deep."""
    path.write_bytes(b"[" * 100_000 if rng.random() < 0.5 else b'{"a":' * 100_000 + b"1" + b"}" * 100_000)


def _duplicate(path: Path, rng: Random) -> None:
    """Every key of a JSON object twice."""
    content = json.loads(path.read_text())
    pairs = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items()]
    path.write_text("{" + ", ".join([*pairs, *pairs]) + "}")


WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**70,
    1e308,
    float("nan"),
    "",
    "../../../etc/passwd",
    "a" * 10_000,
    [],
    [[]],
    {},
    [1, "a"],
)


def _value(path: Path, rng: Random) -> None:
    """One value of a JSON object replaced by something else, at any depth."""
    content = json.loads(path.read_text())
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            places.append((node, key))
            if isinstance(value, (dict, list)):
                walk(value)

    walk(content)
    node, key = places[int(rng.integers(len(places)))]
    if rng.random() < 0.2 and isinstance(node, dict):
        del node[key]
    else:
        node[key] = WRONG[int(rng.integers(len(WRONG)))]
    path.write_text(json.dumps(content))


def _tensor(path: Path, rng: Random) -> None:
    """Another dtype, shape or place of one tensor in a safetensors header."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    entry = header[names[int(rng.integers(len(names)))]]
    change = int(rng.integers(5))
    if change == 0:
        entry["dtype"] = ("I8", "F64", "BF16", "F8_E4M3", "X", 3)[int(rng.integers(6))]
    elif change == 1:
        entry["shape"] = ([HUGE], [-1], [2**31, 2**31], [], [0], ["a"], None)[int(rng.integers(7))]
    elif change == 2:
        entry["data_offsets"] = ([0, HUGE], [8, 0], [-8, 8], [0], "a")[int(rng.integers(5))]
    elif change == 3:
        header["__metadata__"] = {
            "metadata": ("[", "[1]", "null", '{"scale": "a"}', "[" * 50_000)[int(rng.integers(5))]
        }
    else:
        header["more"] = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def _not_finite(path: Path, rng: Random) -> None:
    """NaN in place of the last numbers."""
    content = bytearray(path.read_bytes())
    # The small file by hand has pickles, not numbers, before its last ones.
    count = 4 if path.suffix == ".pth" else min(64, len(content) // 8)
    content[len(content) - 4 * count :] = np.full(count, np.nan, np.float32).tobytes()
    path.write_bytes(bytes(content))


def _json(path: Path) -> bool:
    return path.suffix == ".json" or path.name in (
        ".zarray",
        ".zgroup",
        ".zattrs",
        "_METADATA",
        "metadata",
        "_sharding",
    )


def _safetensors(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _numbers(path: Path) -> bool:
    """Whether numbers end the file."""
    return path.suffix in (".safetensors", ".pth")


def _any(path: Path) -> bool:
    return True


DAMAGES: dict[str, tuple[Callable[[Path, Random], None], Callable[[Path], bool]]] = {
    "truncated": (_truncate, _any),
    "flipped": (_flip, _any),
    "flipped head": (_flip_head, _any),
    "head of another": (_swap_head, _any),
    "length of 2^60": (_length, _any),
    "empty": (_empty, _any),
    "missing": (_remove, _any),
    "a folder": (_folder, _any),
    "a link": (_link, _any),
    "a pickle": (_pickle, _any),
    "garbage": (_garbage, _any),
    "more behind": (_append, _any),
    "deep": (_deep, _json),
    "keys twice": (_duplicate, _json),
    "another value": (_value, _json),
    "another tensor": (_tensor, _safetensors),
    "not finite": (_not_finite, _numbers),
}
"""name -> (what it does to a file, which files it is for)."""


def damage(folder: Path, rng: Random) -> dict[str, str]:
    """Damage one file of the folder; says which, and how."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[int(rng.integers(len(files)))]
    fitting = [name for name, (_, fits) in DAMAGES.items() if fits(path)]
    # Half of the time one that knows the format, where there is one.
    special = [name for name in fitting if DAMAGES[name][1] is not _any]
    names = special if special and rng.random() < 0.5 else fitting
    name = names[int(rng.integers(len(names)))]
    try:
        DAMAGES[name][0](path, rng)
    except (ValueError, AttributeError, KeyError):  # JSON of another form than an object
        name = "garbage"
        _garbage(path, rng)
    return {"file": str(path.relative_to(folder)), "damage": name}


def restore(good: Path, folder: Path) -> None:
    """`folder` as a fresh copy of `good`."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good, folder)


def size_of(folder: Path) -> int:
    """Bytes of a folder's files; links count for nothing."""
    return sum(os.lstat(path).st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
