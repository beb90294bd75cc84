"""Evaluation and report on a robot of a few lines: the same episodes for all, resumed, and honest about failures."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from experiments.common import figures
from experiments.robots import environments, evaluate, report
from experiments.robots.environments import Step
from experiments.robots.evaluate import Evaluate, roll_out, run_evaluate
from experiments.robots.methods import METHODS
from pcm_jax.pretrained import build_policy, load_policy
from tests.policy import policies

QUIET = Console(quiet=True)
SECANT, FEW, TUNED = "Picard + secant", "Picard + secant, 2 rounds", "PCM + secant"


class Toy:
    """A point that an action moves; an episode ends when it has gone far enough. Number 2 takes no action at step 5."""

    max_steps = 12
    breaks = False

    def reset(self, number):
        self.number, self.count, self.place = number, 0, np.array([0.1 * number, -1.0, 5.5], np.float32)
        return self.place.copy()

    def step(self, action):
        self.count += 1
        if self.breaks and (self.number, self.count) == (2, 6):
            raise OSError("the arm fell off")
        self.place = np.clip(self.place + 0.01 * np.append(action, 1.0), [0, -2, 5], [1, 2, 6]).astype(np.float32)
        done = bool(self.count >= 6 + self.number)
        return Step(self.place.copy(), self.count / 12, done and self.number != 1, done)

    def picture(self):
        return np.full((8, 8, 3), self.count, np.uint8)


@pytest.fixture
def toy(monkeypatch, tmp_path):
    monkeypatch.setattr(environments, "make", lambda task, pictures=False: Toy())
    monkeypatch.setattr(evaluate, "load_policy", lambda name: policies.small())
    monkeypatch.setattr(evaluate, "adapter_of", lambda policy, file: None)
    monkeypatch.setattr(Toy, "breaks", False)
    return Evaluate(methods=("DDPM-100", SECANT, FEW), episodes=3, batch=2, out=tmp_path / "cells")


@pytest.mark.slow
def test_the_same_episodes_for_every_method(toy):
    found = run_evaluate(toy, QUIET)
    assert [(line["method"], line["number"]) for line in found] == [(m, n) for m in toy.methods for n in range(3)]
    by = {(line["method"], line["number"]): line for line in found}
    for number in range(3):
        one, other = by["DDPM-100", number], by[SECANT, number]
        assert one["steps"] == other["steps"] == 6 + number and one["success"] == other["success"] == (number != 1)
        # Decisions every 4 steps, and only those of the episode's own length.
        assert len(one["rounds"]) == -(-one["steps"] // 4)
        assert all(rounds == 20 for rounds in one["rounds"]) and all(one["certified"])
        assert all(other["certified"]) and max(other["difference"]) < 0.05 and "difference" not in one
        assert by[FEW, number]["rounds"] == [2] * len(one["rounds"])
        assert not any(by[FEW, number]["certified"])
        assert np.isnan(one["seconds"][:2]).all() and (np.array(one["seconds"][2:]) > 0).all()


@pytest.mark.slow
def test_an_interrupted_evaluation_keeps_finished_episodes(toy, monkeypatch):
    monkeypatch.setattr(Toy, "breaks", True)
    with pytest.raises(RuntimeError, match=r"of pusht failed in episode 2 at step 5 \(OSError: the arm fell off\)"):
        run_evaluate(toy, QUIET)
    kept = list(toy.out.glob("*.json"))
    assert [path.name for path in kept] == ["pusht-DDPM-100-0.json"]
    stamp = kept[0].stat().st_mtime_ns
    monkeypatch.setattr(Toy, "breaks", False)
    found = run_evaluate(toy, QUIET)
    assert len(found) == 9 and kept[0].stat().st_mtime_ns == stamp
    # Other weights are other episodes.
    monkeypatch.setattr(evaluate, "load_policy", lambda name: policies.small(seed=4))
    run_evaluate(toy, QUIET)
    assert kept[0].stat().st_mtime_ns != stamp


@pytest.mark.slow
def test_episodes_do_not_depend_on_their_batch(toy):
    method = METHODS[SECANT]
    policy = method.apply(policies.small(), None)
    together = roll_out("pusht", method, policy, range(3), 0, [Toy() for _ in range(3)])
    alone = [roll_out("pusht", method, policy, range(n, n + 1), 0, [Toy()])[0] for n in range(3)]
    assert [line["rounds"] for line in together] == [line["rounds"] for line in alone]


@pytest.mark.fast
def test_unknown_methods_and_adapters_that_are_missing(toy):
    with pytest.raises(ValueError, match="unknown method 'Magic'; choose among DDPM-100, DDIM-16, Picard"):
        run_evaluate(Evaluate(methods=("Magic",)), QUIET)
    with pytest.raises(ValueError, match="no adapter of policy small is there; make one with: python -m"):
        METHODS[TUNED].apply(policies.small(), None)


def test_only_the_method_that_says_so_starts_from_the_prior():
    policy = load_policy("pusht")
    starts = {name: METHODS[name].apply(policy, None).prior for name in ("Picard", SECANT, "secant + prior")}
    assert starts["Picard"] is None and starts[SECANT] is None and starts["secant + prior"] is policy.prior


@pytest.mark.fast
def test_ddim_takes_its_steps_from_the_same_schedule():
    config = policies.CONFIG
    policy = METHODS["DDIM-16"].apply(build_policy(config, policies.params(), *_normalisers()), None)
    assert len(policy.solver) == 16 and policy.options is None


def _normalisers():
    whole = policies.small()
    return whole.observation, whole.action


def episodes(method, wins, rounds, difference=None, task="reach"):
    lines = []
    for number in range(20):
        line = {"task": task, "method": method, "number": number, "success": number < wins, "score": wins / 20}
        line |= {"rounds": [rounds], "evaluations": [100 * rounds], "certified": [difference is not None]}
        line |= {"seconds": [float("nan"), 0.5 * rounds]}
        lines.append(line | ({} if difference is None else {"difference": [difference]}))
    return lines


@pytest.fixture
def measured():
    found = episodes("DDPM-100", 19, 100)
    for name, method in METHODS.items():
        if name == "DDPM-100":
            continue
        better = {TUNED: 2, "secant + prior": 3, SECANT: 6, "Picard": 20}.get(method.kind, 0)
        wins = 19 if method.rounds is None or method.rounds >= better else 3
        cost = 9 if method.rounds is None else method.rounds
        found += episodes(name, wins, cost - method.warm, 1e-4 if method.exact else None)
    return found


@pytest.mark.fast
def test_headline_numbers(measured):
    lines = report.summarise(measured, list(METHODS))
    first = lines[0]
    assert first["success"] == 0.95 and first["interval"] == pytest.approx([0.764, 0.991], abs=1e-3)
    assert first["time"] == 1.0 and lines[1]["time"] == pytest.approx(0.09), "nine rounds of a hundred"
    assert [report.rounds_at_parity(lines, kind) for kind in ("Picard", SECANT, TUNED)] == [20, 6, 2]
    both = [report.figures("metaworld", lines), report.figures("pusht", lines)]
    assert both[0] == pytest.approx(
        {
            "metaworld.max_action_difference": 1e-4,
            "metaworld.success_sequential": 0.95,
            "metaworld.success_pcm": 0.95,
            "metaworld.prior_rounds_at_parity": 3,
            "metaworld.pcm_rounds_at_parity": 2,
            "metaworld.pcm_over_picard_rounds": 0.1,
            "metaworld.pcm_over_picard_secant_rounds": 1 / 3,
            "metaworld.warm_start_rounds_ratio": 8 / 9,
            "metaworld.warm_start_rounds_ratio_prior": 8 / 9,
            "metaworld.warm_start_rounds_ratio_pcm": 8 / 9,
        }
    )
    assert both[1]["pusht.warm_start_rounds_ratio"] == pytest.approx(8 / 9) and "pusht.score_pcm" in both[1]
    both[1] |= {"pusht.max_action_difference": 5e-4, "pusht.pcm_over_picard_rounds": 0.5}
    assert report.overall(both) == {
        "robots.certified_max_action_difference": 5e-4,
        "robots.prior_rounds_at_parity": 3,
        "robots.pcm_rounds_at_parity": 2,
        "robots.pcm_over_picard_rounds": 0.5,
        "robots.pcm_over_picard_secant_rounds": pytest.approx(1 / 3),
    }
    # Nothing is said of all evaluations while one of them is of fewer methods.
    results = {"pusht": {"methods": lines}, "metaworld": {"methods": lines}}
    assert report.headlines(results)["robots.pcm_rounds_at_parity"] == 2
    assert report.headlines(results | {"pusht": {"methods": lines[:-1]}}) == {}
    # A sampler that never gets there has no number, and then neither has the whole.
    never = [line | {"success": 0.0} if line["method"].startswith(f"{TUNED}, ") else line for line in lines]
    assert "pusht.pcm_rounds_at_parity" not in report.figures("pusht", never)
    assert "robots.pcm_rounds_at_parity" not in report.overall([both[0], report.figures("pusht", never)])


def test_the_page_is_written_from_json(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    lines = report.summarise(measured, list(METHODS))
    tasks = {task: lines for task in environments.METAWORLD}
    result = {"methods": lines, "tasks": tasks, "command": "python -m experiments.robots eval", "device": "cpu"}
    (tmp_path / "robots_eval_metaworld.json").write_text(json.dumps(result))
    report.write_markdown()
    page = (tmp_path / "robots.md").read_text()
    assert (
        "| DDPM-100 | 0.95 | 0.76-0.99 | 0.950 | 100.0 | 100 | 10000 | 1.00 | 1.00 |" in page
        and "| success | reach | push |" in page
    )
    assert "| metaworld | 100 | 20 | 6 | 3 | 2 |" in page
    assert "## pusht" not in page and "## A LoRA" not in page and "## Latency" not in page


def test_an_adapter_of_ones_own_stands_beside_the_shipped_one(measured, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    written = functools.partial(figures.write_result, results=tmp_path)
    monkeypatch.setattr(report, "write_result", written)
    lines = report.summarise(measured, list(METHODS))
    both = {"tasks": {task: lines for task in environments.METAWORLD}, "methods": lines, "command": "", "device": "cpu"}
    (tmp_path / "robots_eval_metaworld.json").write_text(json.dumps(both))
    own = [line | {"success": 1.0} for line in lines if line["method"] == f"{TUNED}, 3 rounds"]
    file = tmp_path / "folder" / "metaworld-push-ddpm100.safetensors"
    report.write_adapter(Evaluate("push", (f"{TUNED}, 3 rounds",), adapter=file), file, own)
    page = (tmp_path / "robots.md").read_text()
    assert f"| push | {TUNED}, 3 rounds | 0.95 | 1.00 | 3.0 | 3.0 |" in page
    assert str(tmp_path) not in page + (tmp_path / "robots_adapter_metaworld_push_ddpm100.json").read_text()


@pytest.mark.fast
def test_files_of_two_adapters_have_two_names():
    assert Evaluate("push").slug("push", f"{TUNED}, 2 rounds, warm") == "push-PCM_secant_2_rounds_warm"
    assert Evaluate("push", adapter=Path("a/mine.safetensors")).slug("push", SECANT) == "push-mine-Picard_secant"


@pytest.mark.slow
def test_video(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(report, "load_policy", lambda name: policies.small())
    monkeypatch.setattr(report, "adapter_of", lambda policy, file: None)
    report.video(toy, FEW, QUIET)
    (path,) = toy.out.glob("*.gif")
    assert path.name == "pusht-Picard_secant_2_rounds.gif" and path.stat().st_size > 100
