"""Endless shuffled batches whose position can be saved, through grain."""

from __future__ import annotations

from typing import Any, Protocol, TypedDict

import grain
import numpy as np

from pcm_jax.data.sources import ImageSource


class Batch(TypedDict):
    """x: float32 `[B, ...]` in [-1, 1]; label: int32 `[B]`."""

    x: np.ndarray
    label: np.ndarray


class BatchIterator(Protocol):
    """Batches, and a position in JSON."""

    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...


def batch_iterator(source: ImageSource, batch_size: int, seed: int) -> BatchIterator:
    """Every epoch in a new order drawn from `seed`; batches run across the border of two epochs.

    `get_state()` after k batches, given to `set_state()` of a new iterator of the same arguments, goes on with batch
    k + 1 exactly.
    """
    if not 1 <= batch_size <= len(source):
        raise ValueError(f"batch_size must lie in 1..{len(source)} (the size of {source.name}), got {batch_size}")

    def gather(index: np.ndarray) -> Batch:
        return Batch(x=source.scaled(index), label=source.labels[index])

    # Only indices are shuffled and batched: one vectorised look-up for each batch instead of a call for each image.
    order = grain.MapDataset.range(len(source)).shuffle(seed=seed).repeat()
    batches = order.batch(batch_size, drop_remainder=True).map(gather)
    # No threads: a batch costs microseconds, and the position saved is then the position consumed.
    iterator: BatchIterator = iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)))
    return iterator
