"""The study of the metrics records the worst of its cases."""

import json

from experiments.parity import metrics as metrics_study


def test_the_worst_case_is_recorded(tmp_path):
    rows = metrics_study.main(metrics_study.Config(cases=((3, 40), (30, 60)), results=tmp_path))["rows"]
    figures = json.loads((tmp_path / "figures.json").read_text())
    for name in ("fd_relative_error", "kid_relative_error"):
        assert figures[f"metrics.{name}"]["value"] == max(row[name] for row in rows) < 1e-6
    assert json.loads((tmp_path / "metrics.json").read_text())["rows"][1]["samples"] == 60


def test_a_wrong_distance_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_study, "frechet_distance", lambda a, b: 1.0)
    (row,) = metrics_study.main(metrics_study.Config(cases=((3, 40),), results=tmp_path))["rows"]
    assert row["fd_relative_error"] > 1e-3
