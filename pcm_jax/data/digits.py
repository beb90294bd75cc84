"""scikit-learn's handwritten digits as a TFDS dataset: 1797 images of 8x8, made without a download."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

TEST_EVERY = 6
"""Every sixth image is a test image: 1498 train, 299 test. The file is ordered by writer, so both see all of them."""


class DigitsBuilder(tfds.core.GeneratorBasedBuilder):
    """UCI "Optical recognition of handwritten digits", the part that scikit-learn bundles.

    image: uint8 `[8, 8, 1]`, 0..16 (counts of ink in 4x4 blocks). label: 0..9.
    """

    name = "pcm_digits"
    VERSION = tfds.core.Version("1.0.0")
    MAX_VALUE = 16

    def _info(self) -> tfds.core.DatasetInfo:
        # dataset_info_from_configs looks for metadata files beside the module and fails inside scripts.
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            homepage="https://archive.ics.uci.edu/dataset/80",
            features=tfds.features.FeaturesDict(
                {
                    # Tensor, not Image: Image stores PNG bytes.
                    "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {"train": self._generate_examples(False), "test": self._generate_examples(True)}

    def _generate_examples(self, test: bool) -> Iterator[tuple[int, dict[str, Any]]]:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        for index, (image, label) in enumerate(zip(bunch.images, bunch.target, strict=True)):
            if (index % TEST_EVERY == TEST_EVERY - 1) == test:
                yield index, {"image": image.astype(np.uint8)[..., None], "label": int(label)}
