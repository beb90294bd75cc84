"""Images of a folder, whatever their formats and sizes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def load_folder(path: str | Path, *, size: int | None = None, batch_size: int = 500) -> Iterator[np.ndarray]:
    """Batches uint8 `[n, H, W, 3]`, in the order of the names, sub-folders included.

    Args:
        path: the folder.
        size: height and width to crop to (the largest centred square) and resize to; None is the first image's.
        batch_size: of the largest batches; the last may be smaller.

    Raises:
        ValueError: no folder or no images in it, at once; a file that is broken, when its turn comes: names it.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(f"there is no folder {path}")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{path} holds no images ({', '.join(SUFFIXES)}); check the path")
    return _batches(files, size, batch_size)


def _batches(files: list[Path], size: int | None, batch_size: int) -> Iterator[np.ndarray]:
    for start in range(0, len(files), batch_size):
        batch = []
        for file in files[start : start + batch_size]:
            batch.append(_read(file, size))
            size = batch[-1].shape[0]
        yield np.stack(batch)


def _read(file: Path, size: int | None) -> np.ndarray:
    import PIL.Image  # of the data extra

    try:
        with PIL.Image.open(file) as opened:
            image = opened.convert("RGB")
    # Decoders meet damage with many exceptions, MemoryError and those of struct and zlib among them.
    except Exception as error:
        raise ValueError(
            f"{file} is broken or no image ({error}); copy it again or take it out of the folder"
        ) from error
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    wanted = side if size is None else size
    if side != wanted:
        square = square.resize((wanted, wanted), PIL.Image.Resampling.LANCZOS)
    return np.asarray(square)
