"""SIGKILL at random moments: every run is started again, and ends with the bits of one that was not interrupted.

A case starts a victim (victim.py) in a process of its own (processes.py), kills it once to three times after a random
part of the time that it takes, and lets it end. Lost are a run that does not end, other bits, and a temporary file that
stays; and, of every victim, a run on a full disk (disk.py) that does not say so, or does not go on when there is room.
"""

from __future__ import annotations

import collections
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.campaigns import disk
from experiments.campaigns.common import Case, Options, finish, run_cases
from experiments.campaigns.processes import Run
from experiments.campaigns.victim import VICTIMS

SOONEST = 0.1
"""Seconds; a run that cannot be killed this soon is not killed."""
CODE = (
    "pcm_jax",
    *(f"experiments/{room}" for room in ("common", "coverage", "gallery", "models", "paper", "pcm", "robots")),
    *(f"experiments/campaigns/{name}.py" for name in ("disk", "kills", "processes", "victim", "toys", "latent")),
)
"""What the victims run: a case that other code has measured is measured again."""


def uninterrupted(name: str, folder: Path, cache: Path | None = None) -> Case:
    """What a victim returns in one go, twice, and how long that takes when its programs are compiled."""
    found, seconds = [], 0.0
    for number in range(2):
        run, begin = folder / f"whole {number} {name}", time.perf_counter()
        digest, complaints = Run(VICTIMS[name], run, cache, keeps=number == 0).ended()
        seconds = time.perf_counter() - begin
        if digest is None:
            raise RuntimeError(f"{name} failed without being killed: {complaints}")
        found.append(digest)
    if found[0] != found[1]:
        raise RuntimeError(f"{name} returned {found[0]} and then {found[1]} without being killed")
    return {"victim": name, "digest": found[0], "seconds": seconds, "bytes": disk.occupied(run)}


def measure(whole: Case, folder: Path, seed: int, index: int, cache: Path | None = None) -> Case:
    """One victim, killed and started again until it may end."""
    rng = np.random.default_rng((seed, index))
    name, run, kills, seconds = whole["victim"], folder / f"case {index}", [], whole["seconds"]
    for _ in range(int(rng.integers(1, 4))):
        moment = float(rng.uniform(0.05, 1.0)) * seconds
        if Run(VICTIMS[name], run, cache).killed(moment):
            kills.append(round(moment, 2))
    # On a machine that has become faster it ended before: once more from the start, and sooner, until it is killed.
    while not kills and seconds > SOONEST:
        shutil.rmtree(run, ignore_errors=True)
        seconds *= 0.6
        moment = float(rng.uniform(0.05, 1.0)) * seconds
        if Run(VICTIMS[name], run, cache).killed(moment):
            kills.append(round(moment, 2))
    found, complaints = Run(VICTIMS[name], run, cache).ended()
    left = [str(path.relative_to(run)) for pattern in disk.SCRATCH for path in run.rglob(pattern)]
    shutil.rmtree(run, ignore_errors=True)
    lost = None
    if found is None:
        lost = f"did not end: {complaints}"
    elif found != whole["digest"]:
        lost = f"returned {found} instead of {whole['digest']}"
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
    cache = (options.out / "compiled").resolve()
    every = dataclasses.replace(options, cases=len(names))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def cases(kind: str, how_many: Options, each: Any) -> list[Case]:
            return run_cases(kind, how_many, each, console, progress=progress, code=CODE)

        wholes = cases(f"kills-{len(names)}-whole", every, lambda index: uninterrupted(names[index], folder, cache))
        full = []
        if disks and disk.possible():
            full = cases(f"kills-{len(names)}-disk", every, lambda index: disk.measure(wholes[index], folder, cache))
        found = cases(
            f"kills-{len(names)}",
            options,
            lambda index: measure(wholes[index % len(names)], folder, options.seed, index, cache),
        )
    lost = [case for case in found if case["lost"]]
    unclean = [case for case in full if case["lost"]]
    payload = {
        "counts": {
            "runs": len(found),
            "killed_runs": sum(bool(case["killed_after"]) for case in found),
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
