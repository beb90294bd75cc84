"""The robot table from episodes of a small robot."""

import io
import json

import numpy as np
from rich.console import Console

from experiments.paper import robots
from experiments.robots import evaluate
from experiments.robots.methods import METHODS


def episodes(config, console):
    """What an evaluation would find: PCM wins in four rounds, Picard in twenty."""
    found = []
    for name in config.methods:
        method = METHODS[name]
        rounds = method.rounds or {"DDPM": 100, "Picard": 30}.get(method.kind, 12)
        won = rounds >= {"Picard": 20, "PCM + secant": 4}.get(method.kind, 6)
        line = {"task": config.task, "method": name, "success": won, "score": float(won), "certified": [won]}
        line |= {"rounds": [rounds] * 2, "evaluations": [100 * rounds] * 2, "seconds": [np.nan, 0.01 * rounds]}
        found += [line | {"number": number} for number in range(4)]
    return found


def test_the_table_stands_beside_the_published_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(evaluate, "run_evaluate", episodes)
    stream = io.StringIO()
    lines = robots.run_robots(robots.Robots(out=tmp_path), Console(file=stream, width=160))
    by = {line["method"]: line for line in lines}
    assert "DDIM-16" not in by and not any("warm" in name for name in by)
    assert by["DDPM-100"]["depth_speedup"] == 1 and by["PCM + secant, 4 rounds"]["depth_speedup"] == 25
    assert by["Picard, 20 rounds"]["success"] == by["PCM + secant, 4 rounds"]["success"] == 1
    text = stream.getvalue()
    assert "2.71x" in text and "arXiv 2503.19731" in text and "25.0x" in text
    kept = json.loads((tmp_path / "paper_robots_pusht.json").read_text())
    assert [line["method"] for line in kept["methods"]] == list(by) and str(tmp_path) not in json.dumps(kept)
