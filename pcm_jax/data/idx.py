"""Images in IDX files (the format of MNIST and its successors) as a TFDS dataset: no TensorFlow, no download."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from pcm_jax.files import reads

PLACES = {"fashion_mnist": (Path("/usr/share/datasets/fashion-mnist"),)}
"""Where packages put the files: Debian's `dataset-fashion-mnist`."""

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


_LARGEST = 2**28
"""Bytes that are unpacked: four times MNIST's. A damaged or made-up file may promise any number."""


def find(name: str, directory: Path) -> Path | None:
    """The folder that holds all four files of `name`: `directory`/idx/`name`, or where a package put them."""
    wanted = [file for pair in FILES.values() for file in pair]
    for folder in (directory / "idx" / name, *PLACES.get(name, ())):
        if all((folder / file).is_file() for file in wanted):
            return folder
    return None


@reads("path")
def read_idx(path: Path) -> np.ndarray:
    """uint8 array of a gzipped IDX file.

    Raises:
        ValueError: no IDX file of bytes, or a truncated one.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with gzip.open(path) as file:
            content = file.read(_LARGEST)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or not gzipped ({error}); copy it again") from error
    # Two zero bytes, the type (8 is uint8), the number of dimensions, then each as a big-endian int32.
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no IDX file of bytes (it starts with {content[:4]!r})")
    rank = content[3]
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if values.size != math.prod(shape):
        raise ValueError(f"{path} promises {shape} and holds {values.size} bytes; copy it again")
    return values.reshape(shape)


class FashionMnistBuilder(tfds.core.GeneratorBasedBuilder):
    """Fashion-MNIST (arXiv 1708.07747, MIT licence) from its four IDX files: 60,000 and 10,000 images of 28x28.

    image: uint8 `[28, 28, 1]`. label: 0..9 (T-shirt, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag,
    ankle boot).
    """

    name = "pcm_fashion_mnist"
    VERSION = tfds.core.Version("1.0.0")
    MAX_VALUE = 255

    def __init__(self, *, folder: Path | None = None, **options: Any) -> None:
        self._folder = folder
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        # dataset_info_from_configs looks for metadata files beside the module and fails inside scripts.
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {split: self._generate_examples(*pair) for split, pair in FILES.items()}

    def _generate_examples(self, images: str, labels: str) -> Iterator[tuple[int, dict[str, Any]]]:
        assert self._folder is not None, "the files are needed to prepare the dataset, not to read it"
        pairs = zip(read_idx(self._folder / images), read_idx(self._folder / labels), strict=True)
        for index, (image, label) in enumerate(pairs):
            yield index, {"image": image[..., None], "label": int(label)}
