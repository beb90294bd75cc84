import itertools
import json

import numpy as np
import pytest

from pcm_jax.data import batch_iterator
from pcm_jax.data.sources import ImageSource

SIZE = 23
SOURCE = ImageSource(
    "toy", np.arange(SIZE, dtype=np.uint8).reshape(SIZE, 1, 1, 1), np.arange(SIZE, dtype=np.int32), SIZE, SIZE
)


def labels(iterator, count):
    return np.concatenate([batch["label"] for batch in itertools.islice(iterator, count)])


@pytest.mark.fast
def test_every_epoch_is_a_new_permutation_and_batches_cross_the_border():
    drawn = labels(batch_iterator(SOURCE, 5, seed=0), SIZE)
    epochs = drawn.reshape(5, SIZE)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(SIZE), (5, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 5


@pytest.mark.fast
@pytest.mark.parametrize("before", [0, 1, 7])
def test_a_restored_position_goes_on_exactly(before):
    first = batch_iterator(SOURCE, 4, seed=3)
    labels(first, before) if before else None
    state = json.loads(json.dumps(first.get_state()))
    second = batch_iterator(SOURCE, 4, seed=3)
    labels(second, 2)
    second.set_state(state)
    np.testing.assert_array_equal(labels(first, 12), labels(second, 12))


def test_the_seed_decides_the_order():
    drawn = {seed: tuple(labels(batch_iterator(SOURCE, 4, seed), 6)) for seed in (0, 0, 1)}
    assert drawn[0] == tuple(labels(batch_iterator(SOURCE, 4, 0), 6))
    assert drawn[0] != drawn[1]


def test_images_and_labels_stay_together():
    batch = next(batch_iterator(SOURCE, 8, seed=1))
    assert (batch["x"].dtype, batch["label"].dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(SOURCE.pixels(batch["x"]).ravel(), batch["label"])


@pytest.mark.parametrize("size", [0, SIZE + 1])
def test_a_batch_larger_than_the_source_is_refused(size):
    with pytest.raises(ValueError, match=r"batch_size must lie in 1..23 \(the size of toy\)"):
        batch_iterator(SOURCE, size, seed=0)
