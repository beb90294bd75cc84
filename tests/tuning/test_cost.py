"""Predictions against arithmetic that is done by hand."""

import numpy as np
import pytest

from pcm_jax.tuning import CostModel, RowsCurve, Run
from pcm_jax.tuning.cost import candidates

pytestmark = pytest.mark.fast

CURVE = RowsCurve((1, 10, 100), (1.0, 1.0, 4.0))


def run(window, rounds, seconds, microbatch=None):
    return Run(window, microbatch, rounds, 0.01, seconds, True, None)


def model(*runs, steps=100, batch=1, devices=1, curve=CURVE):
    return CostModel(steps, batch, devices, curve, runs)


def test_the_curve_between_and_beyond_what_was_measured():
    assert [CURVE(rows) for rows in (1, 5, 10, 55, 100, 200)] == [1.0, 1.0, 1.0, 2.5, 4.0, 8.0]
    assert CURVE.cheapest == pytest.approx(4.0 / 100)
    assert CURVE.free() == 10


def test_more_rows_never_take_less():
    assert RowsCurve.of([(1, 3.0), (4, 1.0), (16, 2.0)]) == RowsCurve((1, 4, 16), (1.0, 1.0, 2.0))


def test_calls_of_fewer_rows_one_after_the_other():
    assert CURVE(100, 10) == 10.0
    assert CURVE(25, 10) == 3 * CURVE(9)
    assert CURVE(100, 100) == CURVE(100, 1000) == CURVE(100)


def test_rounds_are_linear_in_one_over_the_window():
    found = model(run(100, 6.0, 30.0), run(50, 8.0, 20.0))
    # 1 / W: .01 -> 6, .02 -> 8, and W = 1 takes all 100.
    assert found.rounds(100) == 6.0 and found.rounds(50) == 8.0 and found.rounds(1) == 100.0
    assert found.rounds(75) == pytest.approx(6 + 2 * (1 / 75 - 0.01) / 0.01)
    assert found.rounds(10) == pytest.approx(8 + 92 * (0.1 - 0.02) / 0.98)


def test_what_was_measured_is_predicted_exactly():
    runs = [run(100, 6.0, 30.0), run(35, 9.0, 21.0), run(12, 15.0, 35.0, microbatch=6)]
    found = model(*runs)
    for each in runs:
        assert found.seconds(each.window, each.microbatch) == pytest.approx(each.seconds)


def test_between_windows_a_round_is_its_call_and_the_rest():
    found = model(run(100, 6.0, 6 * (4.0 + 0.5)), run(10, 20.0, 20 * (1.0 + 0.1)))
    rest = 0.1 + 0.4 * (55 - 10) / 90
    assert found.rest(55) == pytest.approx(rest)
    assert found.seconds(55) == pytest.approx(found.rounds(55) * (2.5 + rest))


def test_devices_and_batches_share_the_rows():
    found = model(steps=100, batch=4, devices=8)
    assert found.rows(100) == 13 * 4 and found.rows(3) == 4
    assert found.least(2.0) == pytest.approx(2 * 100 * 4 * 0.04 / 8)


def test_no_window_wins_where_a_row_costs_the_same_in_a_batch():
    flat = RowsCurve((1, 100), (1.0, 100.0))
    assert model(curve=flat).hopeless(sequential=100.0, evaluations=2.0)
    free = RowsCurve((1, 100), (1.0, 1.0))
    assert not model(curve=free).hopeless(sequential=100.0, evaluations=2.0)


def test_smaller_calls_where_they_are_cheaper_or_all_that_fits():
    cache = RowsCurve((1, 10, 100), (1.0, 1.0, 20.0))
    assert model(curve=cache).microbatch(100) == 10
    assert model().microbatch(100) is None
    assert model().microbatch(100, most=10) == 10
    assert model().microbatch(10, most=10) is None
    assert model(batch=8).microbatch(2, most=4) == 1


@pytest.mark.parametrize("seed", range(3))
def test_candidates_are_the_best_and_apart(seed):
    draw = np.random.default_rng(seed)
    found = model(*(run(size, float(draw.uniform(5, 40)), float(draw.uniform(10, 90))) for size in (12, 35, 100)))
    best = candidates(found, 3, range(2, 101))
    assert len(best) == 3
    seconds = [found.seconds(size) for size in range(2, 101)]
    assert found.seconds(best[0]) == min(seconds)
    assert all(max(a, b) >= 1.2 * min(a, b) for a in best for b in best if a != b)
