"""The FD study with features of three numbers and a few digits."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from experiments import fd_study, plots
from pcm_jax.metrics import Moments, frechet_distance


def few(images):
    x = images.reshape(len(images), -1).astype(np.float32) / 16
    return np.stack([x.mean(1), x.std(1), np.abs(np.diff(x, axis=1)).mean(1)], axis=1)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return fd_study.Config(model="digits", samples=16, batch=8, rounds=6, out=tmp_path_factory.mktemp("fd"))


@pytest.fixture(scope="module")
def outcome(config):
    return fd_study.run(config, Console(file=io.StringIO()), few)


def test_later_rounds_come_near_the_sequential_samples(outcome):
    fd = outcome["fd"]
    assert set(fd) == {"sequential", *fd_study.METHODS, *fd_study.PREVIEWS} and outcome["images"] == 299
    for method in (*fd_study.METHODS, *fd_study.PREVIEWS):
        assert len(fd[method]) == (9 if method == "Picard" else 6) and fd[method][0] > 2 * fd["sequential"][0]
        assert abs(fd[method][5] - fd["sequential"][0]) < abs(fd[method][0] - fd["sequential"][0])
    assert fd["PCM + secant"][0] < fd["Picard + secant"][0]
    assert fd["PCM + secant, preview"][1] < fd["PCM + secant"][1]


def test_a_stopped_study_goes_on(config, outcome, monkeypatch):
    def never(*_):
        raise AssertionError("all of it is in the files")

    monkeypatch.setattr(fd_study, "_images", never)
    assert fd_study.run(config, Console(file=io.StringIO()), few)["fd"] == outcome["fd"]


def test_sums_are_those_of_all_samples_at_once(config):
    model, source = fd_study.load("digits"), fd_study.load_source("digits", "test")
    images = [
        fd_study._images(config, model, source, "sequential", None, start, size)[0] for start, size in ((0, 8), (8, 8))
    ]
    kept = fd_study.Sums(config.out, "sequential", fd_study._about(config, model, "sequential")).moments[0]
    assert kept.count == 16
    whole = Moments.of(few(np.concatenate(images)))
    np.testing.assert_allclose(kept.covariance, whole.covariance, rtol=1e-9, atol=1e-12)
    assert frechet_distance(kept, whole) == pytest.approx(0, abs=1e-9)


def test_parity_and_plot(outcome, tmp_path):
    fd = {method: [9.0, 1.01, 1.5, 1.0, 1.0] for method in fd_study.METHODS} | {"sequential": [1.0]}
    assert fd_study._parity(fd) == dict.fromkeys(fd_study.METHODS, 4)
    plots.frechet(outcome["fd"], tmp_path / "fd.png", title="digits")
    assert (tmp_path / "fd.png").stat().st_size > 5_000


def test_the_second_round_is_reported_by_the_run_with_most_samples(config, outcome, tmp_path, monkeypatch):
    recorded = {}
    monkeypatch.setattr(fd_study, "RESULTS", tmp_path)
    monkeypatch.setattr(fd_study, "record", lambda name, value, command: recorded.setdefault(name, (value, command)))
    monkeypatch.setattr(fd_study, "write_result", lambda *_, **__: None)
    fd_study.write(config, outcome)
    fd = outcome["fd"]
    ratio, command = recorded["digits.ddim50.fd_ratio_round2"]
    assert ratio == fd["PCM + secant, preview"][1] / fd["Picard"][1]
    assert "--samples 16" in command and "digits.ddim50.fd_floor_round2" in recorded
    early = {"solver": config.solver, "samples": 17}
    (tmp_path / "fd_digits_early.json").write_text(json.dumps({"config": early}))
    recorded.clear()
    fd_study.write(config, outcome)
    assert recorded and not any(name.endswith("_round2") for name in recorded)


def test_only_the_methods_asked_for_are_run(config, monkeypatch):
    seen = set()

    def image(config, model, source, method, rows, start, size):
        seen.add(method)
        return [source.images[start : start + size]] * fd_study._rounds(config, method)

    monkeypatch.setattr(fd_study, "_images", image)
    small = dataclasses.replace(config, methods=("Picard",), rounds=2, longer=1.0, name="early", out=config.out / "few")
    outcome = fd_study.run(small, Console(file=io.StringIO()), few)
    assert seen == {"sequential", "Picard"} == set(outcome["fd"]) and len(outcome["fd"]["Picard"]) == 2
    assert small.study == "fd_digits_early"
    with pytest.raises(ValueError, match=r"unknown methods \['Newton'\]; choose from Picard"):
        fd_study.Config(methods=("Newton",))
