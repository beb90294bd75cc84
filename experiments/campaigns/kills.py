"""SIGKILL at random moments: every run is started again, and ends with the bits of one that was not interrupted.

A case starts a victim (victim.py) in a process of its own, kills it once to three times after a random part of the time
that it takes, and lets it end. Lost are a run that does not end, other bits, and a temporary file that stays. Beside it
a training on a disk of a few MB that fills up, where one can be mounted: it must say so, and leave its last checkpoint.
"""

from __future__ import annotations

import collections
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.campaigns.common import Case, Options, finish, run_cases
from experiments.campaigns.victim import VICTIMS
from experiments.figures import ROOT

PATIENCE = 1200
"""Seconds after which a run hangs."""
SCRATCH = ("unfinished-*", "*.tmp", "*.orbax-checkpoint-tmp*")
"""Names of what is being written."""


def start(name: str, folder: Path) -> subprocess.Popen[str]:
    """The victim's process."""
    command = [sys.executable, "-W", "ignore", "-m", "experiments.campaigns.victim", name, str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[str | None, str]:
    """(what it printed last, or None if it failed; the end of its complaints)."""
    try:
        out, complaints = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None, "hangs"
    lines = out.strip().splitlines()
    good = process.returncode == 0 and bool(lines)
    return (json.loads(lines[-1]) if good else None), complaints[-1500:]


class Whole:
    """What the victims print in one go, and how long that takes; found out when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[str, float]] = {}

    def __call__(self, name: str) -> tuple[str, float]:
        if name not in self._known:
            begin = time.perf_counter()
            digest, complaints = ended(start(name, self._folder / f"whole {name}"))
            if digest is None:
                raise RuntimeError(f"{name} failed without being killed: {complaints}")
            self._known[name] = digest, time.perf_counter() - begin
        return self._known[name]


def measure(whole: Whole, folder: Path, names: Sequence[str], seed: int, index: int) -> Case:
    """One victim, killed and started again until it may end."""
    rng = np.random.default_rng((seed, index))
    name = names[index % len(names)]
    digest, seconds = whole(name)
    run = folder / f"case {index}"
    kills = []
    for _ in range(int(rng.integers(1, 4))):
        process, moment = start(name, run), float(rng.uniform(0.1, 1.0)) * seconds
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            kills.append(round(moment, 2))
        process.communicate()
    found, complaints = ended(start(name, run))
    left = [str(path.relative_to(run)) for pattern in SCRATCH for path in run.rglob(pattern)]
    shutil.rmtree(run, ignore_errors=True)
    lost = None
    if found is None:
        lost = f"did not end: {complaints}"
    elif found != digest:
        lost = f"printed {found} instead of {digest}"
    elif left:
        lost = f"left {left[:3]}"
    return {"victim": name, "killed_after": kills, "seconds": round(seconds, 1), "lost": lost}


def full_disk(folder: Path, megabytes: int = 16) -> dict[str, Any] | None:
    """A training on a disk that fills up; None where nothing can be mounted."""
    place = folder / "disk"
    place.mkdir(parents=True, exist_ok=True)
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    try:
        filler = place / "filler"
        run = place / "run"
        # Room for some checkpoints and then for none: the disk fills up while the run goes on.
        first = start("train", run)
        while first.poll() is None and not _steps(run):
            time.sleep(0.02)
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(2**14)):
                pass
        digest, complaints = ended(first)
        steps = _steps(run)
        filler.unlink()
        again, later = ended(start("train", run))
    finally:
        subprocess.run(["umount", str(place)], check=True, capture_output=True)
    clear = "could not be written" in complaints and "No space left" in complaints
    # What a user reads last; the trace before it names folders of the machine.
    last = (complaints.strip().splitlines() or [""])[-1]
    complaint = last if again is not None else f"{last}; and then {later}"
    return {"failed": digest is None, "clear": clear, "left_steps": steps, "complaint": complaint, "resumed": again}


def _steps(run: Path) -> list[int]:
    """Of the whole checkpoints that a run has."""
    return sorted(int(path.name) for path in run.glob("checkpoints/*") if path.name.isdigit())


def run(
    options: Options, console: Console, *, names: Sequence[str] = tuple(VICTIMS), progress: bool = True
) -> dict[str, Any]:
    """All cases, and the full disk."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        whole = Whole(folder)
        found = run_cases(
            "kills",
            options,
            lambda index: measure(whole, folder, names, options.seed, index),
            console,
            progress=progress,
        )
        disk = full_disk(folder) if "train" in names else None
        if disk is not None:
            disk["same_bits"] = disk.pop("resumed") == whole("train")[0]
            disk["complaint"] = disk["complaint"].replace(place, "..")
    lost = [case for case in found if case["lost"]]
    payload = {
        "counts": {"runs": len(found), "kills": sum(len(case["killed_after"]) for case in found), "lost": len(lost)},
        "victims": dict(sorted(collections.Counter(case["victim"] for case in found).items())),
        "full_disk": disk,
        "cases": found,
    }
    finish("kills", options, payload, {"kills_lost": len(lost)}, console)
    return payload
