"""Endless shuffled batches whose position can be saved, through grain."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

import numpy as np

from pcm_jax import checks

Batch = TypeVar("Batch", covariant=True)


class Source(Protocol[Batch]):
    """Examples in memory: an `ImageSource`, a `ChunkSource`."""

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def gather(self, index: np.ndarray) -> Batch:
        """The examples at `index` `[n]`, stacked."""


class BatchIterator(Protocol[Batch]):
    """Batches, and a position in JSON."""

    def __next__(self) -> Batch: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...


def batch_iterator(source: Source[Batch], batch_size: int, seed: int) -> BatchIterator[Batch]:
    """Every epoch in a new order drawn from `seed`; batches run across the border of two epochs.

    `get_state()` after k batches, given to `set_state()` of a new iterator of the same arguments, goes on with batch
    k + 1 exactly.
    """
    import grain

    if not hasattr(source, "gather"):
        raise ValueError(f"source must hold examples, as pcm_jax.data.load_source returns them, got {source!r}")
    checks.whole("seed", seed, 0)
    if not 1 <= checks.whole("batch_size", batch_size, 0) <= len(source):
        raise ValueError(f"batch_size must lie in 1..{len(source)} (the size of {source.name}), got {batch_size}")
    # Only indices are shuffled and batched: one vectorised look-up for each batch instead of a call for each example.
    order = grain.MapDataset.range(len(source)).shuffle(seed=seed).repeat()
    batches = order.batch(batch_size, drop_remainder=True).map(source.gather)
    # No threads: a batch costs microseconds, and the position saved is then the position consumed.
    iterator: BatchIterator[Batch] = iter(
        batches.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
    )
    return iterator
