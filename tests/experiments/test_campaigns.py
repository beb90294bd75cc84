"""A small cut of every campaign, and that each would see what it looks for."""

import dataclasses
import functools
import json
import os
import re
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.campaigns import common, damage, disk, exactness, files, kills, recurrences, soak
from experiments.campaigns.common import Options
from experiments.campaigns.good_files import READERS
from experiments.common.figures import ROOT
from pcm_jax.files import write_text

QUIET = Console(quiet=True)


def options(tmp_path, cases, seed=0):
    return Options(cases, seed, tmp_path / "out", tmp_path / "results")


def figures(tmp_path):
    return {name: one["value"] for name, one in json.loads((tmp_path / "results" / "figures.json").read_text()).items()}


@pytest.mark.fast
def test_a_stopped_campaign_goes_on_and_keeps_what_it_has(tmp_path):
    measured = []

    def measure(index):
        measured.append(index)
        if len(measured) == 3:
            raise KeyboardInterrupt
        return {"square": index**2}

    with pytest.raises(KeyboardInterrupt):
        common.run_cases("toy", options(tmp_path, 5), measure, QUIET, progress=False)
    (path,) = (tmp_path / "out").glob("toy-0-*.jsonl")
    with path.open("a") as file:
        file.write('{"case": 2, "squ')
    found = common.run_cases("toy", options(tmp_path, 5), measure, QUIET, progress=False)
    assert [case["square"] for case in found] == [0, 1, 4, 9, 16] and measured == [0, 1, 2, 2, 3, 4]
    assert common.run_cases("toy", options(tmp_path, 4), measure, QUIET, progress=False) == found[:4]
    assert len(measured) == 6


def test_no_campaign_without_cases():
    command = [sys.executable, "-m", "experiments.campaigns", "files", "--cases", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "at least one case" in done.stderr


@pytest.mark.slow
def test_damaged_files(tmp_path):
    found = files.run(options(tmp_path, 60), QUIET, progress=False)
    assert found["failures"] == [] and figures(tmp_path)["campaign.files_unnamed"] == 0
    assert found["counts"]["named"] > 30 and sum(count > 0 for count in found["readers"].values()) > 12
    again = files.run(options(tmp_path, 60), QUIET, progress=False)
    assert again["counts"] == found["counts"]


@pytest.fixture
def reader(tmp_path):
    one = files.Reader(tmp_path / "reader")
    yield one
    one.close()


@pytest.mark.slow
def test_every_damage_reaches_a_reader_and_every_good_file_is_read(reader):
    for name in READERS:
        reader.good(name)
    kinds = set()
    for seed in range(300):
        folder = reader.folder / "case"
        damage.restore(reader.good(sorted(READERS)[seed % len(READERS)]), folder)
        kinds.add(damage.damage(folder, np.random.default_rng(seed))["damage"])
    assert kinds == set(damage.DAMAGES)


@pytest.mark.slow
def test_a_reader_that_dies_or_unpickles_or_writes_is_noticed(tmp_path):
    """A process with three bad readers, asked as the campaign asks."""
    script = """
import os, pickle, sys
from pathlib import Path
from experiments.campaigns import good_files, reader
good_files.READERS |= {
    "pickle": (None, lambda at: pickle.loads((at / "x").read_bytes())),
    "writes": (None, lambda at: Path(at.parent / "outside").write_text("x")),
    "net": (None, lambda at: __import__("socket").create_connection(("127.0.0.1", 9), 0.1)),
    "memory": (None, lambda at: sum(bytearray(300 * 2**20)[::4096]) and (1 / 0)),
    "bare": (None, lambda at: {}["a"]),
    "dies": (None, lambda at: os._exit(3)),
}
reader.main()
"""
    (tmp_path / "case").mkdir()
    harmless = damage.PICKLE.replace(b"cos\nsystem", b"cbuiltins\nlen").replace(b"touch", b"t")
    assert harmless.startswith(b"cbuiltins\nlen") and b"system" not in harmless, (
        "this test reads it: it may run nothing"
    )
    (tmp_path / "case" / "x").write_bytes(harmless)
    reader = files.Reader(tmp_path)
    reader._process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    said = {name: reader.ask(name, tmp_path / "case") for name in ("pickle", "writes", "net", "memory", "bare", "dies")}
    reader.close()
    faults = {name: files.fault(answer, tmp_path / "case") for name, answer in said.items()}
    assert "pickle.find_class" in faults["pickle"] and "writes" in faults["writes"] and "socket" in faults["net"]
    assert faults["bare"] == "KeyError instead of a ValueError" and faults["dies"] == "died instead of a ValueError"
    assert said["memory"]["growth_mb"] > 200
    named = {"outcome": "named", "message": str(tmp_path), "seconds": 0.1, "growth_mb": 1.0, "events": []}
    assert files.fault(named, tmp_path) is None
    assert "names no file" in files.fault(named | {"message": "bad"}, tmp_path)
    assert "2.0 s" in files.fault(named | {"seconds": 2.0}, tmp_path)
    assert "300.0 MB" in files.fault(named | {"growth_mb": 300.0}, tmp_path)
    assert Path(tmp_path / "outside").exists()


@pytest.mark.slow
def test_soak(tmp_path):
    found = soak.run(options(tmp_path, 60), QUIET, progress=False)
    assert figures(tmp_path)["campaign.soak_recompilations"] == 0
    assert found["different_in_threads"] == {"samples": 0, "decisions": 0}
    assert found["samples"]["growth_mb"] < 20 and found["decisions"]["p99_ms"] > 0


@pytest.mark.slow
def test_soak_sees_compilations_memory_and_other_bits():
    kept, count = [], iter(range(1000))

    def leaks(number):
        kept.append(np.ones((1 + number // 20, 2**17)))  # a MB at least
        return np.asarray(jax.jit(lambda x: x + 1)(np.ones(1 + number // 30)))

    found = soak.soak(leaks, "leaks", 100, QUIET, False)
    assert found["compiled"] >= 3 and found["growth_mb"] > 20
    assert soak.different_in_threads(lambda number: np.asarray(next(count)), 5) > 0


@pytest.mark.slow
def test_exactness(tmp_path):
    """One group of the campaign: the samples over their tolerance, and one way of each kind."""
    found = exactness.unequal(2, ("vmap", "pmap"))
    assert found == []


@pytest.mark.fast
def test_exactness_sees_what_is_not_equal(monkeypatch):
    calls = iter([0.0, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3])

    def wrong(arrays, static, **changes):
        x = np.ones((2, 4)) + next(calls)
        stats = types.SimpleNamespace(rounds=np.ones(2))
        return types.SimpleNamespace(sample=x, result=np.zeros(2), stats=stats)

    monkeypatch.setattr(exactness, "sample", wrong)
    monkeypatch.setattr(exactness, "ways", lambda seed, static: {"window": lambda arrays: wrong(arrays, static)})
    (found,) = exactness.unequal(0, ("window",))
    assert found["way"] == "window" and found["results"] and found["rounds"] and abs(found["apart"] - 1e-3) < 1e-6


@pytest.mark.slow
def test_random_recurrences_are_lax_scans(tmp_path, monkeypatch):
    monkeypatch.setattr(recurrences, "GROUP", 2)
    found = recurrences.run(options(tmp_path, 2), QUIET, progress=False)
    assert found["counts"]["samples"] == 16 and found["counts"]["cases"] == 2 and found["counts"]["certified"] > 12
    assert found["counts"]["leaked"] == 0 and found["unequal"] == [] and found["counts"]["over"] == 0
    assert figures(tmp_path)["campaign.recurrences_over"] == 0 == figures(tmp_path)["campaign.exactness_over"]


@pytest.mark.fast
def test_the_figure_covers_both_random_campaigns(tmp_path):
    for name, over, judged in (("exactness", 1, 300), ("recurrences", 2, 100)):
        counts = {"over": over, "leaked": 1, "judged": judged}
        (tmp_path / f"campaign_{name}.json").write_text(json.dumps({"counts": counts}))
    common.record_over("a command", tmp_path)
    found = json.loads((tmp_path / "figures.json").read_text())["campaign.exactness_over"]
    assert found["value"] == 5 / 400


@pytest.mark.slow
def test_the_campaign_of_recurrences_would_see_a_wrong_scan(monkeypatch):
    right = recurrences.solve

    def off(program, arrays, **changes):
        out = right(program, arrays, **changes)
        return dataclasses.replace(out, carry=jax.tree.map(lambda leaf: leaf + 1.0, out.carry))

    monkeypatch.setattr(recurrences, "solve", off)
    jax.clear_caches()
    found = recurrences.measure(0, cases=1)
    jax.clear_caches()
    assert found["over"] == found["certified"] > 0 and found["failures"][0]["ratio"] > 3


def quick(folder, again=None, full=None):
    """A victim that needs no JAX: thirty files, one every hundredth of a second. again: after it was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = len(list(folder.glob("line-*")))
    for number in range(done, 30):
        try:
            write_text(folder / f"line-{number}", "x")
        except OSError as error:
            raise full or error from None
        time.sleep(0.01)
    return again(folder, done) if again and done else "0"


def stops(folder, done):
    raise RuntimeError("I cannot go on")


def leaves(folder, done):
    (folder / "more.tmp").write_text("x")
    return "0"


def differs(folder, done):
    return str(done)


QUICK = {
    "good": quick,
    "differs": functools.partial(quick, again=differs),
    "stops": functools.partial(quick, again=stops),
    "leaves": functools.partial(quick, again=leaves),
    "unclear": functools.partial(quick, full=OSError("no")),
}


@pytest.mark.slow
def test_kills_see_other_bits_ends_and_leftovers(monkeypatch, tmp_path):
    monkeypatch.setattr(kills, "VICTIMS", QUICK)
    whole = {name: kills.uninterrupted(name, tmp_path) for name in QUICK if name != "unclear"}
    lost = {name: [kills.measure(each, tmp_path, 0, index) for index in range(2)] for name, each in whole.items()}
    assert not any(case["lost"] for case in lost["good"]) and all(case["killed_after"] for case in lost["good"])
    slow = kills.measure(whole["good"] | {"seconds": 60.0}, tmp_path, 1, 0)
    assert slow["lost"] is None and slow["killed_after"], "measured on a busier machine, and still killed"
    for name, words in (("differs", "instead of"), ("stops", "I cannot go on"), ("leaves", "more.tmp")):
        assert any(words in (case["lost"] or "") for case in lost[name]), lost[name]


@pytest.mark.slow
def test_full_disks_that_are_not_clean_are_lost(tmp_path):
    """Quick victims on a tmpfs of a few files, asked as the campaign asks."""
    if not disk.possible():
        pytest.skip("nothing can be mounted here")
    script = tmp_path / "script.py"
    script.write_text(f"""
import json
from pathlib import Path
from experiments.campaigns import disk
from tests.experiments.test_campaigns import QUICK
if __name__ == "__main__":
    disk.VICTIMS = QUICK
    for name in ("good", "stops", "leaves", "unclear"):
        print(json.dumps(disk.fill(name, Path({str(tmp_path)!r}) / name, 30 * disk.PAGE, "0")))
    print(json.dumps(disk.fill("good", Path({str(tmp_path)!r}) / "large", 3000 * disk.PAGE, "0")))
""")
    command = [*disk.namespace(), sys.executable, "-W", "ignore", str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    *found, large = [json.loads(line) for line in done.stdout.splitlines()]
    lost = {each["victim"]: each["lost"] for each in found}
    assert lost["good"] is None and "No space left" in found[0]["said"] and found[0]["files_kept"] > 3
    assert "I cannot go on" in lost["stops"] and "more.tmp" in lost["leaves"]
    assert "was not clear" in lost["unclear"] and large["lost"] == "did not notice"


@pytest.mark.fast
def test_unclean_disks_count_as_lost(monkeypatch, tmp_path):
    monkeypatch.setattr(
        kills, "uninterrupted", lambda name, folder, cache: {"victim": name, "digest": "x", "seconds": 1.0}
    )
    monkeypatch.setattr(
        kills, "measure", lambda whole, folder, seed, index, cache: {"victim": "a", "killed_after": [0.1], "lost": None}
    )
    monkeypatch.setattr(disk, "possible", lambda: True)
    monkeypatch.setattr(disk, "measure", lambda whole, folder, cache: {"victim": whole["victim"], "lost": "not clear"})
    found = kills.run(options(tmp_path, 4), QUIET, names=("a", "b"), progress=False)
    assert found["counts"] == {"runs": 4, "killed_runs": 4, "kills": 4, "lost": 0, "full_disks": 2, "unclean_disks": 2}
    assert figures(tmp_path)["campaign.kills_lost"] == 2


@pytest.mark.fast
def test_kills_are_measured_again_when_what_the_victims_run_has_changed():
    run = set(re.findall(r"from experiments\.(\w+)", (ROOT / "experiments/campaigns/victim.py").read_text()))
    assert {"robots", "paper"} <= run
    assert {f"experiments/{room}" for room in run - {"campaigns"}} <= set(kills.CODE)
    assert all((ROOT / place).exists() for place in kills.CODE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["prior", "robots eval pusht"])
def test_a_real_run_is_killed_and_ends_like_others(tmp_path, name):
    found = kills.run(options(tmp_path, 1), QUIET, names=(name,), disks=False, progress=False)
    assert found["counts"]["lost"] == 0 and figures(tmp_path)["campaign.kills_lost"] == 0
    assert found["victims"] == {name: 1} and found["full_disks"] == []
