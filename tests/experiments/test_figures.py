"""Results files: flat figures that keep each other, full records, honest commits, nothing that JSON cannot hold."""

import dataclasses
import json
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.common import figures

pytestmark = pytest.mark.fast


@dataclasses.dataclass(frozen=True)
class Config:
    steps: int = 50
    tolerances: tuple[float, ...] = (0.1, 0.01)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_record_keeps_the_others_and_sorts(tmp_path):
    figures.record("spmd8.cost_ratio", 1.0, command="make bench", results=tmp_path)
    figures.record("demo.ddim50.rounds", np.int32(11), command="make demo", results=tmp_path)
    first = (tmp_path / "figures.json").read_text()
    figures.record("spmd8.cost_ratio", jnp.float32(1.5), command="make bench", results=tmp_path)
    out = read(tmp_path / "figures.json")
    assert list(out) == ["demo.ddim50.rounds", "spmd8.cost_ratio"]
    assert {"value", "device", "command", "commit"} == set(out["demo.ddim50.rounds"])
    assert out["demo.ddim50.rounds"]["value"] == 11
    assert out["spmd8.cost_ratio"]["value"] == 1.5
    figures.record("spmd8.cost_ratio", 1.0, command="make bench", results=tmp_path)
    assert (tmp_path / "figures.json").read_text() == first
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


@pytest.mark.parametrize("name", ["", "Demo.rounds", "demo..rounds", "demo rounds", "demo."])
def test_record_rejects_names(tmp_path, name):
    with pytest.raises(ValueError, match="joined by dots"):
        figures.record(name, 1, command="make demo", results=tmp_path)


@pytest.mark.parametrize("value", [float("nan"), jnp.inf, [1, 2], None, {"a": 1}, np.zeros(2)])
def test_record_rejects_values_and_leaves_the_file(tmp_path, value):
    figures.record("a.b", 1, command="make demo", results=tmp_path)
    before = (tmp_path / "figures.json").read_text()
    with pytest.raises(ValueError, match=r"a\.b"):
        figures.record("a.b", value, command="make demo", results=tmp_path)
    assert (tmp_path / "figures.json").read_text() == before


def test_write_result_holds_what_is_needed_to_run_it_again(tmp_path):
    payload = {"rows": [{"rounds": jnp.int32(3), "residuals": np.arange(2.0)}], "note": None}
    path = figures.write_result("demo", payload, config=Config(), seed=7, command="make demo", results=tmp_path)
    assert path == tmp_path / "demo.json"
    out = read(path)
    assert out["rows"] == [{"rounds": 3, "residuals": [0.0, 1.0]}]
    assert out["config"] == {"steps": 50, "tolerances": [0.1, 0.01]}
    assert out["seed"] == 7
    assert out["versions"]["jax"] == jax.__version__
    assert set(out["versions"]) == {"python", "jax", "jaxlib", "flax", "pcm_jax"}
    assert set(out) >= {"device", "commit", "command", "date", "note"}


def test_write_result_rejects(tmp_path):
    def write(study="demo", **payload):
        return figures.write_result(study, payload, config={}, seed=0, command="make demo", results=tmp_path)

    with pytest.raises(ValueError, match=r"payload\.rows\[1\]\.error is nan"):
        write(rows=[{}, {"error": float("nan")}])
    with pytest.raises(ValueError, match="seed are written by"):
        write(seed=3)
    with pytest.raises(ValueError, match="other than figures"):
        write(study="figures")
    with pytest.raises(TypeError, match=r"payload\.model is a object"):
        write(model=object())
    assert list(tmp_path.iterdir()) == []


def test_device_names_kind_platform_and_counts():
    name = figures.device()
    first = jax.devices()[0]
    assert first.device_kind in name and first.platform in name
    assert f"{len(jax.devices())} device" in name and "cores" in name


@pytest.fixture
def repository(tmp_path, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)  # set inside a git hook: they would name the real repository

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "code.py").write_text("one\n")
    (tmp_path / "experiments" / "results").mkdir(parents=True)
    (tmp_path / "experiments" / "results" / "demo.json").write_text("{}\n")
    git("add", ".")
    git("commit", "-q", "--no-verify", "-m", "one")
    return tmp_path


def test_commit_of_a_clean_tree_whatever_the_results(repository):
    clean = figures.commit(repository)
    assert len(clean) >= 7 and int(clean, 16) >= 0
    (repository / "experiments" / "results" / "demo.json").write_text("{1}\n")
    (repository / "experiments" / "results" / "new.json").write_text("{}\n")
    assert figures.commit(repository) == clean


@pytest.mark.parametrize("name", ["code.py", "untracked.py", "experiments/demo.py"])
def test_commit_of_a_dirty_tree(repository, name):
    clean = figures.commit(repository)
    (repository / name).write_text("two\n")
    assert figures.commit(repository) == f"{clean}+dirty"


def test_commit_is_unknown_without_a_repository_of_its_own(repository, tmp_path_factory, monkeypatch):
    assert figures.commit(tmp_path_factory.mktemp("plain")) == "unknown"
    assert figures.commit(repository / "experiments") == "unknown"
    monkeypatch.setenv("PATH", "")
    assert figures.commit(repository) == "unknown"


@pytest.mark.fast
def test_a_command_can_be_typed_as_it_is_written():
    @dataclasses.dataclass(frozen=True)
    class Config:
        methods: tuple[str, ...] = ()
        seed: int = 0

    written = figures.command_line("experiments.x", Config(("PCM + secant", "DDIM-16"), 3))
    assert written == "python -m experiments.x --methods 'PCM + secant' DDIM-16 --seed 3"
