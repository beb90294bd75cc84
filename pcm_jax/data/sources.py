"""Labelled images through TensorFlow Datasets, read without importing TensorFlow."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from pcm_jax import checks

DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10", "emoji32", "emoji64")
"""Names that `load_source` takes."""


class ImageBatch(TypedDict):
    """x: float32 `[B, H, W, C]` in [-1, 1]; label: int32 `[B]`."""

    x: np.ndarray
    label: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSource:
    """A split, decoded once and held in memory (the largest of them, cifar10, is 150 MB).

    images: uint8 `[N, H, W, C]`. labels: int32 `[N]`. max_value: the pixel value that becomes +1.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    num_classes: int
    max_value: int

    def __post_init__(self) -> None:
        checks.whole("num_classes", self.num_classes, 0)
        checks.whole("max_value", self.max_value)
        for name in ("images", "labels"):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
                raise ValueError(f"{name} must be an array of integers, got {checks.shown(value)}")
        if len(self.images) != len(self.labels):
            raise ValueError(f"there are {len(self.images)} images and {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, index: np.ndarray) -> ImageBatch:
        """The images at `index`, scaled."""
        return ImageBatch(x=self.scaled(index), label=self.labels[index])

    def scaled(self, index: np.ndarray | slice = slice(None)) -> np.ndarray:
        """float32 `[n, H, W, C]` in [-1, 1]: 2 x / max_value - 1."""
        return self.images[index].astype(np.float32) * np.float32(2.0 / self.max_value) - np.float32(1.0)

    def pixels(self, samples: np.ndarray) -> np.ndarray:
        """uint8 `[n, H, W, C]` of 0..max_value, the inverse of `scaled`; values outside [-1, 1] are clipped."""
        return np.clip(np.round((np.asarray(samples) + 1.0) * (self.max_value / 2)), 0, self.max_value).astype(np.uint8)


def data_directory() -> Path:
    """$PCM_JAX_DATA, else ~/.cache/pcm_jax."""
    return Path(os.environ.get("PCM_JAX_DATA") or Path.home() / ".cache" / "pcm_jax")


def load_source(name: str, split: str = "train", data_dir: str | Path | None = None) -> ImageSource:
    """A split of the dataset `name`, prepared on first use.

    Args:
        name: "digits" (made from scikit-learn, nothing is downloaded), or "mnist", "fashion_mnist", "cifar10", which
            TFDS downloads because you named it. "fashion_mnist" is made from its four IDX files where they are: in
            data_dir/idx/fashion_mnist, or installed with Debian's package dataset-fashion-mnist. "emoji32" and
            "emoji64" are made from the npm archives in data_dir/emoji.
        split: "train" or "test", or a TFDS slice of one such as "train[:10%]".
        data_dir: where prepared datasets lie; default `data_directory()`.

    Raises:
        ValueError: an unknown name or split, or a dataset that is not there and cannot be prepared.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown dataset {name!r}; choose one of {', '.join(DATASETS)}")
    directory = Path(data_dir) if data_dir is not None else data_directory()
    builder = _prepared(name, directory)
    try:
        records = builder.as_data_source(split=split)
    except ValueError as error:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(sorted(builder.info.splits))}") from error
    examples = [records[index] for index in range(len(records))]
    return ImageSource(
        name=name,
        images=np.stack([example["image"] for example in examples]),
        labels=np.asarray([example["label"] for example in examples], np.int32),
        num_classes=builder.info.features["label"].num_classes,
        max_value=getattr(builder, "MAX_VALUE", 255),
    )


def _prepared(name: str, directory: Path) -> Any:
    import tensorflow_datasets as tfds

    options = {"data_dir": str(directory), "file_format": "array_record"}
    builder = _local(name, directory, options)
    if builder is None and name.startswith("emoji"):
        raise ValueError(f"{name} is not in {directory}. {_remedy(name, directory)}")
    if builder is None:
        builder = tfds.builder(name, **options)
        # Found out here, not after the downloader's minutes of retries: TFDS decodes these archives with TensorFlow.
        if not builder.is_prepared() and importlib.util.find_spec("tensorflow") is None:
            raise ValueError(f"{name} is not in {directory}. {_remedy(name, directory)}")
    try:
        builder.download_and_prepare()
    # Downloads, decoders and file systems fail with exceptions of many unrelated classes.
    except Exception as error:
        raise ValueError(
            f"{name} is not in {directory} and could not be prepared ({type(error).__name__}: {error}). "
            f"{_remedy(name, directory)}"
        ) from error
    return builder


def _local(name: str, directory: Path, options: dict[str, Any]) -> Any:
    """Our own builder, where it has what it needs: for digits always, for others if their files are here."""
    if name == "digits":
        from pcm_jax.data.digits import DigitsBuilder

        return DigitsBuilder(**options)
    if name == "fashion_mnist":
        from pcm_jax.data import idx

        folder = idx.find(name, directory)
        builder = idx.FashionMnistBuilder(folder=folder, **options)
        return builder if folder or builder.is_prepared() else None
    if name.startswith("emoji"):
        from pcm_jax.data import emoji

        kind = emoji.Emoji32Builder if name == "emoji32" else emoji.Emoji64Builder
        archives = emoji.find(directory)
        made = kind(folder=archives, **options)
        return made if archives or made.is_prepared() else None
    return None


def _remedy(name: str, directory: Path) -> str:
    if name.startswith("emoji"):
        from pcm_jax.data import emoji

        return emoji.remedy(directory)
    if name == "digits":
        return (
            "Remedy: install the data extra (pip install 'pcm_jax[data]') and point PCM_JAX_DATA at a writable folder"
        )
    package = "install Debian's dataset-fashion-mnist; or " if name == "fashion_mnist" else ""
    return (
        f"Remedy: {package}on a machine with a network and TensorFlow run tfds.builder({name!r}, data_dir=DIR, "
        'file_format="array_record").download_and_prepare(), copy DIR here and point PCM_JAX_DATA at it (reading it '
        "needs no TensorFlow); or use 'digits', which needs no download"
    )
