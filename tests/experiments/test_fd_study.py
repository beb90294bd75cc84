"""The FD study with features of three numbers and a few digits."""

import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console

from experiments.common import plots
from experiments.pcm import fd_study
from pcm_jax.metrics import Moments, frechet_distance

pytestmark = pytest.mark.slow


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
        assert len(fd[method]) == (9 if method == "Picard" else 6) and fd[method][0] > 1.5 * fd["sequential"][0]
        assert abs(fd[method][5] - fd["sequential"][0]) < abs(fd[method][0] - fd["sequential"][0])
    assert fd["PCM + secant"][0] < fd["Picard + secant"][0]
    assert fd["secant + prior"][0] < fd["Picard + secant"][0]
    assert fd["secant + prior, preview"][1] < fd["Picard + secant, preview"][1]
    assert fd["PCM + secant, preview"][1] < fd["PCM + secant"][1]
    # The shipped rows end with the last state: from there on nothing is sampled twice.
    assert fd["PCM + secant, preview"][5] == fd["PCM + secant"][5]


def test_a_stopped_study_goes_on(config, outcome, monkeypatch):
    def never(*_):
        raise AssertionError("all of it is in the files")

    monkeypatch.setattr(fd_study, "_images", never)
    assert fd_study.run(config, Console(file=io.StringIO()), few)["fd"] == outcome["fd"]


def test_sums_are_those_of_all_samples_at_once(config, outcome):
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


def test_methods_that_cannot_have_changed_keep_their_numbers(config, outcome, tmp_path, monkeypatch):
    measured = []

    def image(config, model, source, method, rows, start, size):
        measured.append(method)
        return [source.images[start : start + size]] * fd_study._rounds(config, method)

    monkeypatch.setattr(fd_study, "_images", image)
    monkeypatch.setattr(fd_study, "RESULTS", tmp_path)
    known = {"fd": outcome["fd"], "about": outcome["about"] | {"PCM": "of another adapter"}}
    (tmp_path / "fd_digits.json").write_text(json.dumps(known))
    fresh = dataclasses.replace(config, out=tmp_path / "fresh")
    again = fd_study.run(fresh, Console(file=io.StringIO()), few)
    assert set(measured) == {"PCM"} and again["about"] == outcome["about"]
    assert list(again["fd"]) == list(outcome["fd"])
    for method in fd_study.METHODS:
        assert (again["fd"][method] == outcome["fd"][method]) == (method != "PCM")
    # Rows chosen for the base model make its preview another one, and nothing else.
    path = tmp_path / f"{fd_study.previews_name('digits-ddim50')}.json"
    path.write_text(json.dumps({"rows": {"Picard + secant": [3, 50]}}))
    model = fd_study.load("digits")
    assert fd_study._rows(fresh, model, "Picard + secant, preview") == (3, 50)
    changed = [m for m in outcome["fd"] if fd_study.digest(fd_study._about(fresh, model, m)) != outcome["about"][m]]
    assert changed == ["Picard + secant, preview"]
