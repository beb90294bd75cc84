"""Plans for devices whose seconds are known: the fastest window is found, and sequential where nothing is faster."""

import pytest

from pcm_jax.tuning.search import search
from tests.tuning.fake import FakeMeter

pytestmark = pytest.mark.fast


def best(meter):
    """(seconds, window) of the fastest window, by trying all."""
    return min((meter.seconds(size), size) for size in range(2, meter.steps + 1))


@pytest.mark.parametrize(
    "meter",
    [
        {},
        {"batch": 16},
        {"steps": 50, "travel": 4.0},
        {"batch": 64, "throughput": 300e3, "overhead": 4e-3},
        {"devices": 8, "batch": 4},
        {"steps": 20, "base": 4.0},
        {"rest": 2e-3},
    ],
)
def test_the_plan_is_within_five_per_cent_of_the_best_window(meter):
    meter = FakeMeter(**meter)
    plan = search(meter, None)
    seconds, _ = best(meter)
    assert not plan.sequential
    assert plan.seconds == pytest.approx(meter.seconds(plan.window, plan.microbatch))
    assert plan.seconds <= 1.05 * seconds
    assert plan.speedup == pytest.approx(plan.sequential_seconds / plan.seconds)
    assert plan.expected == pytest.approx(plan.speedup, rel=0.25)
    assert plan.memory == meter.memory(plan.window, plan.microbatch, None)
    assert f"window={plan.window}" in plan.advice and "times faster" in plan.advice


@pytest.mark.parametrize(
    "meter",
    [
        {"overhead": 0.0, "throughput": 1e3},
        {"batch": 64, "throughput": 64e3},
        {"steps": 1},
        {"base": 99.0},
        {"penalty": 30.0},
        {"rest": 0.05},
    ],
)
def test_sequential_where_no_window_is_faster(meter):
    meter = FakeMeter(**meter)
    plan = search(meter, None)
    assert meter.steps == 1 or best(meter)[0] > plan.sequential_seconds
    assert plan.sequential and plan.options is None and plan.speedup == 1.0 and plan.memory is None
    assert plan.advice.startswith("Sequential is faster here")


def test_rows_that_are_not_cheaper_together_end_it_before_a_window_is_run():
    meter = FakeMeter(overhead=0.0, throughput=1e3)
    assert search(meter, None).sequential
    assert not meter.of("run") and not meter.of("race")


def test_long_calls_in_which_rows_cost_the_same_are_not_made_longer():
    meter = FakeMeter(batch=64, throughput=64.0, overhead=0.0)
    assert search(meter, None).sequential
    assert len(meter.of("network")) == 2
    meter = FakeMeter(batch=64, throughput=64e3, overhead=5.0)
    search(meter, None)
    assert len(meter.of("network")) == 5, "long calls in which rows are free say nothing of larger ones"


def test_a_window_is_given_up_when_it_has_lost():
    meter = FakeMeter(batch=64, throughput=200e3, base=60.0)
    plan = search(meter, None)
    assert plan.runs and not any(run.converged for run in plan.runs)
    assert all(run.seconds < 3 * plan.sequential_seconds for run in plan.runs)
    assert plan.sequential and not {window for window, _ in meter.of("race")[0]} & {run.window for run in plan.runs}


def test_a_window_that_was_stopped_before_it_had_lost_is_run_again():
    meter = FakeMeter(batch=64, throughput=200e3, base=12.0, penalty=0.2)
    plan = search(meter, None)
    assert [window for window, _ in meter.of("run")].count(100) == 2
    assert not plan.sequential and all(run.converged for run in plan.runs)


def test_the_full_window_and_the_three_best_are_timed_beside_the_sequential_sampler():
    meter = FakeMeter(batch=16)
    search(meter, None)
    (race,) = meter.of("race")
    assert 3 <= len(race) <= 4 and any(window == meter.steps for window, _ in race)


def test_a_budget_that_is_spent_leaves_one_window():
    meter = FakeMeter(budget=0.1)
    plan = search(meter, None)
    assert len(meter.of("network")) == 2 and len(meter.of("run")) == 1
    assert plan.window == meter.steps and not plan.sequential


def test_memory_cuts_the_calls_and_keeps_the_window():
    meter = FakeMeter(batch=4)
    plan = search(meter, meter.held + 100)
    assert not plan.sequential
    assert plan.memory is not None and plan.memory <= meter.held + 100
    assert max(rows for rows, _ in plan.rows) <= 100


def test_nothing_fits():
    meter = FakeMeter(batch=4, least=2, states=5000)
    plan = search(meter, meter.held + 1000)
    assert plan.sequential and not meter.of("run")
    assert "no window's program fits into 2,000 bytes" in plan.advice


def test_rows_that_stop_being_cheap_in_large_calls():
    class Cached(FakeMeter):
        def call(self, rows, microbatch=None):
            small = super().call(rows, microbatch)
            return small if (microbatch or rows) <= 40 else 4 * small

    plan = search(Cached(overhead=1e-4, rest=1e-5, travel=20.0), None)
    assert plan.microbatch is not None and plan.microbatch <= 40


def test_what_comes_next_is_said():
    said = []
    search(FakeMeter(), None, said.append)
    assert said[0].startswith("the network on") and "best windows" in said[-1]
