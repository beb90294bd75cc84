"""Damaged files: every reader answers with a named ValueError, soon and within little memory, or reads on.

A case draws a reader, copies its good file or folder, damages one file in one way and has it read in a process of its
own. A ValueError without the file's or folder's name, any other exception, a process that dies or does not answer, more
than a second of processor time or 200 MB for an error, a pickle that is looked up, a file written elsewhere, a
connection: all of these count as unnamed. Damage that a reader cannot see, such as a flipped bit of a weight, is read.
"""

from __future__ import annotations

import collections
import json
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from experiments.campaigns.common import Case, Options, finish, run_cases
from experiments.campaigns.damage import damage, restore
from experiments.campaigns.good_files import READERS
from experiments.common.figures import ROOT

SECONDS, MEGABYTES = 1.0, 200.0
BLIND = ("metadata",)
"""Readers that see no tensor."""
PATIENCE = 60.0
"""Seconds of the clock after which a reader hangs; the machine may be busy with other things."""


class Reader:
    """The process that reads, started anew when it dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._known: set[str] = set()

    def good(self, name: str) -> Path:
        """The reader's good file or folder, read once by this process."""
        path = self.folder / "good" / name
        if not path.exists():
            path.mkdir(parents=True)
            READERS[name][0](path)
        if name not in self._known:
            answer = self.ask(name, path)
            if answer["outcome"] != "read":
                raise RuntimeError(f"the good file of {name} was not read: {answer}")
            self._known.add(name)
        return path

    def ask(self, name: str, path: Path) -> dict[str, Any]:
        """What came of reading `path`."""
        if self._process is None:
            command = [sys.executable, "-m", "experiments.campaigns.reader"]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
            )
            self._known = set()
        assert self._process.stdin is not None and self._process.stdout is not None
        limit = len(self._known) >= 1
        self._process.stdin.write(json.dumps({"reader": name, "folder": str(path), "limit": limit}) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if ready else ""
        if line:
            return dict(json.loads(line))
        outcome = "died" if ready else "hangs"
        self.close()
        return {"outcome": outcome, "message": "", "seconds": PATIENCE, "growth_mb": 0.0, "events": []}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def measure(reader: Reader, seed: int, index: int) -> Case:
    """One damaged file."""
    rng = np.random.default_rng((seed, index))
    name = sorted(READERS)[int(rng.integers(len(READERS)))]
    good, folder = reader.good(name), reader.folder / "case"
    restore(good, folder)
    done = damage(folder, rng)
    answer = reader.ask(name, folder)
    wrong = fault(answer, folder)
    if done["damage"] == "not finite" and answer["outcome"] == "read" and name not in BLIND:
        wrong = "NaN weights were read"
    return {"reader": name} | done | answer | {"fault": wrong}


def fault(answer: dict[str, Any], folder: Path) -> str | None:
    """What is wrong with an answer; None if nothing is."""
    if answer["events"]:
        return f"forbidden: {answer['events'][0]}"
    if answer["outcome"] == "read":
        return None
    if answer["outcome"] != "named":
        return f"{answer['outcome']} instead of a ValueError"
    if str(folder) not in answer["message"]:
        return "the message names no file"
    if answer["seconds"] > SECONDS:
        return f"took {answer['seconds']} s"
    if answer["growth_mb"] > MEGABYTES:
        return f"took {answer['growth_mb']} MB"
    return None


def run(options: Options, console: Console, *, progress: bool = True) -> dict[str, Any]:
    """All cases, counted by reader and damage."""
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(Path(folder))
        try:
            found = run_cases(
                "files", options, lambda index: measure(reader, options.seed, index), console, progress=progress
            )
        finally:
            reader.close()
    failures = [case for case in found if case["fault"]]
    outcomes = collections.Counter(case["outcome"] for case in found)
    errors = [case for case in found if case["outcome"] == "named"]
    payload = {
        "counts": {"cases": len(found), "unnamed": len(failures), **dict(sorted(outcomes.items()))},
        "readers": {name: sum(case["reader"] == name for case in found) for name in sorted(READERS)},
        "damages": dict(sorted(collections.Counter(case["damage"] for case in found).items())),
        "slowest_error_seconds": max((case["seconds"] for case in errors), default=0.0),
        "largest_error_mb": max((case["growth_mb"] for case in errors), default=0.0),
        "failures": [{k: str(v).replace(str(folder), "") for k, v in case.items()} for case in failures],
    }
    finish("files", options, payload, {"files_unnamed": len(failures)}, console)
    return payload
