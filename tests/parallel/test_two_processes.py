"""Two processes with two CPU devices each: sampling over all four, data-parallel training, checkpoints, results."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300
TRIES = 3


def free_port() -> int:
    """Free now; another program may take it before the first process listens there, so that callers try again."""
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return int(listener.getsockname()[1])


def start(address: str, process: int, folder: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    command = [sys.executable, "-m", "tests.parallel.two_processes", address, str(process), str(folder)]
    with (folder / f"errors{process}").open("w") as errors:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True)


def together(folder: Path) -> list[dict]:
    """What each of the two found."""
    folder.mkdir()
    address = f"localhost:{free_port()}"
    running = [start(address, process, folder) for process in (0, 1)]
    try:
        said = [each.communicate(timeout=SECONDS)[0] for each in running]
    finally:
        for each in running:
            each.kill()
            each.wait()
    errors = [(folder / f"errors{process}").read_text() for process in (0, 1)]
    assert [each.returncode for each in running] == [0, 0], "\n".join(errors)
    # The collectives' library writes lines of its own.
    return [json.loads(next(line for line in out.splitlines() if line.startswith("{"))) for out in said]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Started once: its folder, and what both processes say."""
    folder = tmp_path_factory.mktemp("two")
    for attempt in range(TRIES):
        try:
            return folder / str(attempt), together(folder / str(attempt))
        except AssertionError as error:
            if attempt == TRIES - 1 or "in use" not in str(error).lower():
                raise
    raise AssertionError("unreachable")


def test_both_see_all_devices(found):
    assert [(each["devices"], each["here"]) for each in found[1]] == [(4, 2), (4, 2)]


@pytest.mark.parametrize("how", ["window", "data_window", "constrained"])
def test_samples_are_those_of_one_device(found, how):
    for each in found[1]:
        assert each[how]["difference"] < 1e-5
        assert each[how]["rounds_equal"] and each[how]["results"] == [0] * 4
    assert found[1][0][how] == found[1][1][how]


def test_a_data_parallel_step_is_that_of_one_device(found):
    for each in found[1]:
        alone, parallel = each["gradients"]
        assert parallel == pytest.approx(alone, rel=1e-5)
        assert len(alone) == 2 and min(alone) > 0
        assert each["trainer"] < 1e-5 < 1e-3 < each["moved"]
    assert found[1][0]["gradients"] == found[1][1]["gradients"]


def test_each_process_writes_its_own_checkpoints(found):
    folder, said = found
    for process, each in enumerate(said):
        assert each["steps"] == [1, 2] and each["position"] == {"at": 2} and each["restored"]
        assert (folder / f"process{process}" / "together" / "checkpoints" / "2").is_dir()


def test_one_process_writes_results(found):
    folder, _ = found
    assert json.loads((folder / "together.json").read_text())["by"] == 0
    assert json.loads((folder / "figures.json").read_text())["together.by"]["value"] == 0
