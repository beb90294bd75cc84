"""The study of imported models: what it records, and what it refuses to record."""

import json

import numpy as np
import pytest

from experiments.parity import imports as import_study

EXPECTED = {key: value for key, value in np.load(import_study.REFERENCE).items() if not key.startswith("trajectory/")}


def outputs(factor):
    """A model that is PyTorch's, times a factor."""

    def found(folder, name, size):
        prefix = f"{name}/{size[0]}x{size[1]}/"
        return {key.removeprefix(prefix): factor * EXPECTED[key] for key in EXPECTED if key.startswith(prefix)}

    return found


def parts(name):
    return {part: EXPECTED[f"{name}/{part}"] for part in ("features", "out")}


def test_the_figure_is_the_worst_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(import_study, "adapted", lambda folder, name: EXPECTED[f"{name}/out"])
    monkeypatch.setattr(import_study, "seen", lambda folder, name: parts(name))
    monkeypatch.setattr(import_study, "actions", lambda folder, name, horizon: EXPECTED[f"{name}/{horizon}/out"])
    monkeypatch.setattr(import_study, "outputs", outputs(1 + 5e-5))
    import_study.main(import_study.Config(tmp_path, results=tmp_path))
    figure = json.loads((tmp_path / "figures.json").read_text())["import.max_relative_error"]
    assert figure["value"] == pytest.approx(5e-5, rel=0.01) and figure["command"] == "make parity"
    errors = json.loads((tmp_path / "import_parity.json").read_text())["errors"]
    assert set(errors) == set(EXPECTED)


def test_too_large_an_error_is_no_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(import_study, "adapted", lambda folder, name: EXPECTED[f"{name}/out"])
    monkeypatch.setattr(import_study, "seen", lambda folder, name: parts(name))
    monkeypatch.setattr(import_study, "actions", lambda folder, name, horizon: EXPECTED[f"{name}/{horizon}/out"])
    for wrong in (1 + 2e-4, np.nan):
        monkeypatch.setattr(import_study, "outputs", outputs(wrong))
        with pytest.raises(SystemExit):
            import_study.main(import_study.Config(tmp_path, results=tmp_path))
    assert not (tmp_path / "figures.json").exists()


def test_relative_error():
    expected = np.asarray([[1.0, -4.0]])
    assert import_study.relative_error(expected + 0.2, expected) == pytest.approx(0.05)
    assert import_study.relative_error(expected[0], expected) == float("inf")
