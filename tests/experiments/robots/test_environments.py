"""The real simulators: episodes that their number alone fixes, scores, and experts that succeed."""

import numpy as np
import pytest

from experiments.robots import environments
from experiments.robots.collect import Collect, demonstrate, load, run_collect
from experiments.robots.environments import MetaWorld, PushT, make, pusht_features


@pytest.fixture(scope="module")
def reach():
    return MetaWorld("reach")


@pytest.mark.fast
def test_push_t_is_fixed_by_its_number():
    one, other = PushT(), PushT()
    np.testing.assert_array_equal(one.reset(3), other.reset(3))
    assert not np.array_equal(one.reset(4), one.reset(5))
    one.reset(3)
    for _ in range(4):
        step, twin = one.step(np.array([256.0, 300.0])), other.step(np.array([256.0, 300.0]))
        np.testing.assert_array_equal(step.observation, twin.observation)
    assert step.observation.shape == (8,) and 0 <= step.score <= 1 and not step.done
    assert one.picture().dtype == np.uint8 and one.picture().ndim == 3


def test_the_score_of_push_t_is_the_best_so_far():
    world = PushT()
    world.reset(0)
    scores = [world.step(np.array([x, 256.0])).score for x in np.linspace(50, 450, 40)]
    assert np.all(np.diff(scores) >= 0)


@pytest.mark.fast
def test_features_of_push_t_have_no_jump_at_a_full_turn():
    state = np.array([[10.0, 20.0, 200.0, 300.0, 0.001], [10.0, 20.0, 200.0, 300.0, 2 * np.pi - 0.001]])
    found = pusht_features(state)
    np.testing.assert_allclose(found[0], found[1], atol=0.5)
    np.testing.assert_allclose(found[0, :2], [10, 20])
    quarter = pusht_features(np.array([0, 0, 200.0, 300.0, np.pi / 2]))
    np.testing.assert_allclose(quarter[2:], [200, 240, 200, 360, 80, 300], atol=1e-4)


@pytest.mark.slow
def test_experts_succeed_and_episodes_are_fixed_by_their_number(reach):
    assert not np.array_equal(reach.reset(0), reach.reset(-1)), "demonstrations have variants of their own"
    first = demonstrate(reach, 1, Collect(tasks=("reach",), linger=3))
    again = demonstrate(MetaWorld("reach"), 1, Collect(tasks=("reach",), linger=3))
    np.testing.assert_array_equal(first.action, again.action)
    assert first.reward[-4:].any() and first.observation.shape[1] == 39 + 8
    code = first.observation[:, 39:]
    np.testing.assert_array_equal(code, np.tile(np.eye(8)[0], (len(code), 1)))
    assert np.abs(first.action).max() <= 1


@pytest.mark.slow
def test_collecting_goes_on_where_it_was(tmp_path):
    from rich.console import Console

    config = Collect(tasks=("reach",), episodes=3, linger=2, out=tmp_path)
    run_collect(config, Console(quiet=True))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "reach").glob("*array_record*")}
    assert times
    run_collect(config, Console(quiet=True))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "reach").glob("*array_record*")} == times
    assert len(load(("reach",), tmp_path).episodes) == 3
    with pytest.raises(ValueError, match=r"Demonstrations are made by: python -m experiments.robots collect"):
        load(("push",), tmp_path)


@pytest.mark.fast
def test_unknown_tasks_and_simulators_that_are_not_installed(monkeypatch):
    with pytest.raises(ValueError, match="unknown task 'juggle'; choose one of pusht, reach"):
        make("juggle")

    def absent():
        raise ImportError("No module named 'gym_pusht'")

    monkeypatch.setattr(environments, "PushT", absent)
    with pytest.raises(
        ValueError, match=r"not installed \(No module named 'gym_pusht'\): pip install 'pcm-jax\[robots\]'"
    ):
        make("pusht")


def test_pictures_without_a_driver_name_the_remedy(reach, monkeypatch):
    def fail():
        raise OSError("no OpenGL")

    monkeypatch.setattr(reach._env, "render", fail)
    with pytest.raises(
        ValueError, match=r"failed here \(OSError: no OpenGL\).*apt-get install libosmesa6, then MUJOCO_GL"
    ):
        reach.picture()
