"""Files that are written whole or not at all, and readers that say which file is wrong."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Found = TypeVar("Found")


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A disk, a quota or a limit that is reached."""


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """A full disk inside the block is an OSError that names `path` and what to do, whatever a library made of it."""
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in FULL
        if "could not be written" in str(error) or not (full or "No space left" in str(error)):
            raise
        number = error.errno if isinstance(error, OSError) and error.errno in FULL else errno.ENOSPC
        raise OSError(
            number,
            f"{path} could not be written: {os.strerror(number)}. Make room, and start again: what was written before "
            "is whole",
        ) from error


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it gets `path`'s name when the block ends, and is removed if it fails.

    A process that is killed inside leaves the old file, and an `unfinished-<name>` that the next writer takes over.

    Raises:
        OSError: the disk is full; the message says which file and what to do.
    """
    path = Path(path)
    scratch = path.with_name(f"unfinished-{path.name}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            scratch.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                scratch.unlink()
            raise


def write_text(path: str | Path, text: str) -> None:
    """`text` as `path`, in one step."""
    with whole(path) as scratch:
        scratch.write_text(text)


def reads(*arguments: str) -> Callable[[Callable[Given, Found]], Callable[Given, Found]]:
    """Of a reader: whatever a damaged file makes of it is a ValueError with the file's name.

    Libraries meet damage with any exception there is, MemoryError and RecursionError among them. The one that came is
    the cause of the error that is raised.

    Args:
        arguments: those of the reader that make up the path, in order.
    """

    def decorate(function: Callable[Given, Found]) -> Callable[Given, Found]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def reader(*args: Given.args, **kwargs: Given.kwargs) -> Found:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                given = signature.bind(*args, **kwargs)
                given.apply_defaults()
                where = "/".join(str(given.arguments[name]) for name in arguments)
                first = str(given.arguments[arguments[0]])
                if isinstance(error, ValueError) and first in str(error):
                    raise
                reason = (str(error).splitlines() or [""])[0][:300]
                kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                raise ValueError(f"{where} cannot be read ({kind}{reason}); copy it again") from error

        return reader

    return decorate


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: no JSON, no object, or a key that is there twice, of which nobody knows which is meant.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
        return found

    try:
        content = json.loads(path.read_bytes().decode(), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:  # JSON and Unicode both are the first
        raise ValueError(f"{path} is no JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__} instead of an object; copy it again")
    return content


def check_regular(folder: Path) -> None:
    """No device, pipe or dangling link in a folder: reading one may never end."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file() and not path.is_dir():
            raise ValueError(f"{path} is neither a file nor a folder; take it out, or copy {folder} again")
