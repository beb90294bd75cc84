"""Metrics on cases with known answers."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax import metrics


@pytest.mark.fast
def test_distances():
    reference = np.zeros((2, 2), np.float32)
    sample = jnp.array([[3.0, 0.0], [0.0, -4.0]])
    assert metrics.rms_error(sample, reference) == pytest.approx(2.5)
    assert metrics.max_difference(sample, reference) == 4.0
    assert np.isnan(metrics.rms_error(sample * jnp.nan, reference))


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([1.0, 0.1, 0.01], 2),
        ([0.05, 1.0, 0.01], 3),  # it has to stay there
        ([0.1, 0.1], 1),
        ([1.0, 0.2], None),
        ([0.1, float("nan")], None),
        ([], None),
    ],
)
def test_rounds_to(errors, expected):
    assert metrics.rounds_to(errors, 0.1) == expected


def test_paired_timings_are_of_the_same_run():
    slow, fast, ratio = metrics.paired(lambda: time.sleep(0.02), lambda: time.sleep(0.004), repeats=5)
    assert len(slow.seconds) == len(fast.seconds) == 5
    assert slow.median > fast.median and 1.5 < ratio < 6


def test_warm_up_is_not_counted():
    calls = []
    timing = metrics.time_call(lambda: calls.append(len(calls)), repeats=3, warmup=2)
    assert len(calls) == 5 and len(timing.seconds) == 3
