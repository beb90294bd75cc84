"""What the make targets run, and the figure of how long it takes."""

import json
import os
import subprocess
import tomllib
from types import SimpleNamespace

import pytest

from experiments.bench import suite
from experiments.common.figures import ROOT

pytestmark = pytest.mark.fast


def made(target: str) -> str:
    command = ["make", "-n", "--no-print-directory", target, "PYTHON=python3", "VENV="]
    # This test may itself run under make, which hands its own WORKERS and ARGS on.
    alone = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "WORKERS", "ARGS")}
    return subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=True).stdout


def test_make_test_leaves_slow_ones_to_test_all():
    assert '-m "not slow"' in made("test") and "-m fast" in made("fast")
    assert " -m pytest -q -n 2 --dist" in made("test-all") and made("test-all").count(" -m ") == 1
    assert "make test-all" in (ROOT / ".ci" / "run").read_text()
    # pytest alone runs every test, and a marker that is not in this list is an error.
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "--strict-markers" in options["addopts"] and " -m " not in options["addopts"]
    assert [marker.split(":")[0] for marker in options["markers"]] == ["fast", "slow"]


def test_no_fast_test_is_slow(request):
    marked = [item for item in request.session.items if item.get_closest_marker("fast")]
    assert not [item.nodeid for item in marked if item.get_closest_marker("slow")]


def test_every_target_starts_with_nothing_cached_and_is_recorded(monkeypatch, tmp_path):
    caches = []

    def run(command, *, env, **_):
        caches.append(env["PCM_JAX_TEST_CACHE"])
        assert command[:2] == ["make", "test" if len(caches) == 1 else "test-all"]
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(suite, "subprocess", SimpleNamespace(run=run))
    suite.main(suite.Config(targets=("test", "test-all")), results=tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.keys() == {"tests.minutes", "tests.all_minutes"} and len(set(caches)) == 2
    assert figures["tests.minutes"]["command"] == "python -m experiments.bench.suite"
    assert "cores)" in figures["tests.minutes"]["device"]


def test_a_failed_run_is_not_recorded(monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "subprocess", SimpleNamespace(run=lambda *_, **__: SimpleNamespace(returncode=1)))
    with pytest.raises(RuntimeError, match="make test failed"):
        suite.main(suite.Config(), results=tmp_path)
    assert not (tmp_path / "figures.json").exists()
