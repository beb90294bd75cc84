"""Datasets through TFDS and grain, without TensorFlow."""

from pcm_jax.data.batches import BatchIterator, Source, batch_iterator
from pcm_jax.data.folder import load_folder
from pcm_jax.data.sources import DATASETS, ImageBatch, ImageSource, data_directory, load_source

__all__ = [
    "DATASETS",
    "BatchIterator",
    "ImageBatch",
    "ImageSource",
    "Source",
    "batch_iterator",
    "data_directory",
    "load_folder",
    "load_source",
]
