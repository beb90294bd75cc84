"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it gets `path`'s name when the block ends, and is removed if it fails.

    A process that is killed inside leaves the old file, and an `unfinished-<name>` that the next writer takes over.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"unfinished-{path.name}")
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
