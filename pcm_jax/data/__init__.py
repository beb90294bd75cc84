"""Datasets through TFDS and grain, without TensorFlow."""

from pcm_jax.data.batches import Batch, BatchIterator, batch_iterator
from pcm_jax.data.sources import DATASETS, ImageSource, data_directory, load_source

__all__ = ["DATASETS", "Batch", "BatchIterator", "ImageSource", "batch_iterator", "data_directory", "load_source"]
