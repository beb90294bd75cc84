"""SIGKILL at random moments: every run is started again, and ends with the bits of one that was not interrupted.

A case starts a victim (victim.py) in a process of its own, kills it once to three times after a random part of the time
that it takes, and lets it end. Lost are a run that does not end, other bits, and a temporary file that stays; and, of
every victim, a run on a full disk (disk.py) that does not say so, or does not go on when there is room.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
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

from experiments.campaigns import disk
from experiments.campaigns.common import Case, Options, finish, run_cases
from experiments.campaigns.victim import VICTIMS
from experiments.figures import ROOT

PATIENCE = 1200
"""Seconds after which a run hangs."""
SCRATCH = ("unfinished-*", "*.tmp", "*.orbax-checkpoint-tmp*")
"""Names of what is being written."""
CODE = ("pcm_jax", *(f"experiments/campaigns/{name}.py" for name in ("kills", "victim", "toys", "latent")))
COMPILED: dict[str, str] = {}
"""Environment of the victims: where compiled programs are kept, so that kills meet work more often than XLA."""


def start(name: str, folder: Path, *, compiles: bool = False) -> subprocess.Popen[str]:
    """The victim's process. compiles: it also keeps what it compiles.

    Killed ones may not: JAX writes the files of its cache in place, half an entry would be the next run's.
    """
    command = [sys.executable, "-W", "ignore", "-m", "experiments.campaigns.victim", name, str(folder)]
    env = os.environ | COMPILED | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0" if compiles else "1e9"}
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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


def uninterrupted(name: str, folder: Path) -> Case:
    """What a victim prints in one go, twice, and how long that takes when its programs are compiled."""
    found, seconds = [], 0.0
    for number, compiles in enumerate((True, False)):
        run, begin = folder / f"whole {number} {name}", time.perf_counter()
        digest, complaints = ended(start(name, run, compiles=compiles))
        seconds = time.perf_counter() - begin
        if digest is None:
            raise RuntimeError(f"{name} failed without being killed: {complaints}")
        found.append(digest)
    if found[0] != found[1]:
        raise RuntimeError(f"{name} printed {found[0]} and then {found[1]} without being killed")
    return {"victim": name, "digest": found[0], "seconds": seconds, "bytes": disk.occupied(run)}


def measure(whole: Case, folder: Path, seed: int, index: int) -> Case:
    """One victim, killed and started again until it may end."""
    rng = np.random.default_rng((seed, index))
    name, run, kills = whole["victim"], folder / f"case {index}", []
    for _ in range(int(rng.integers(1, 4))):
        process, moment = start(name, run), float(rng.uniform(0.1, 1.0)) * whole["seconds"]
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
    elif found != whole["digest"]:
        lost = f"printed {found} instead of {whole['digest']}"
    elif left:
        lost = f"left {left[:3]}"
    return {"victim": name, "killed_after": kills, "seconds": round(whole["seconds"], 1), "lost": lost}


def run(
    options: Options,
    console: Console,
    *,
    names: Sequence[str] = tuple(VICTIMS),
    disks: bool = True,
    progress: bool = True,
) -> dict[str, Any]:
    """All cases, and every victim on a full disk."""
    compiled = (options.out / "compiled").resolve()
    COMPILED.update(JAX_COMPILATION_CACHE_DIR=str(compiled), JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1")
    every = dataclasses.replace(options, cases=len(names))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def cases(kind: str, how_many: Options, each: Any) -> list[Case]:
            return run_cases(kind, how_many, each, console, progress=progress, code=CODE)

        wholes = cases(f"kills-{len(names)}-whole", every, lambda index: uninterrupted(names[index], folder))
        full = []
        if disks and disk.possible():
            full = cases(f"kills-{len(names)}-disk", every, lambda index: disk.measure(wholes[index], folder, COMPILED))
        found = cases(
            f"kills-{len(names)}",
            options,
            lambda index: measure(wholes[index % len(names)], folder, options.seed, index),
        )
    lost = [case for case in found if case["lost"]]
    unclean = [case for case in full if case["lost"]]
    payload = {
        "counts": {
            "runs": len(found),
            "kills": sum(len(case["killed_after"]) for case in found),
            "lost": len(lost),
            "full_disks": len(full),
            "unclean_disks": len(unclean),
        },
        "victims": dict(sorted(collections.Counter(case["victim"] for case in found).items())),
        "full_disks": full,
        "cases": found,
    }
    finish("kills", options, payload, {"kills_lost": len(lost) + len(unclean)}, console)
    return payload
