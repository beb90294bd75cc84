"""A disk that is full: `python -m experiments.campaigns.disk NAME FOLDER BYTES DIGEST CACHE`, prints what came of it.

A victim runs on a tmpfs with room for a part of what it writes. It must fail with an OSError that names the file, says
that no space is left and what to do; given room, the next run must end with the bits of one that never met a full disk.
The tmpfs is mounted in a mount namespace of this process, which takes it along when it ends, however that is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from experiments.campaigns.common import Case
from experiments.campaigns.processes import Run
from experiments.campaigns.victim import VICTIMS
from experiments.common.figures import ROOT

SCRATCH = ("unfinished-*", "*.tmp", "*.orbax-checkpoint-tmp*")
"""Names of what is being written."""
PARTS = (0.6, 0.3, 0.1)
"""Of what the victim leaves, tried one after the other until the run fails."""
PAGE = 4096
"""Bytes that a file of one byte takes on a tmpfs."""


def occupied(folder: Path) -> int:
    """Bytes that a folder's files take on a tmpfs."""
    return sum(-(-path.stat().st_size // PAGE) * PAGE for path in folder.rglob("*") if path.is_file())


def namespace() -> list[str]:
    """The command before a command that mounts."""
    return ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]


def possible() -> bool:
    """Whether a tmpfs can be mounted here, in a namespace of its own."""
    command = [*namespace(), "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()]
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def measure(whole: Case, folder: Path, cache: Path) -> Case:
    """One victim; whole: what it returns and leaves without a full disk. cache: of compiled programs."""
    place = folder / "disk" / whole["victim"]
    arguments = [whole["victim"], str(place), str(whole["bytes"]), whole["digest"], str(cache)]
    command = [*namespace(), sys.executable, "-W", "ignore", "-m", "experiments.campaigns.disk", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        return {"victim": whole["victim"], "lost": f"was not tried: {done.stderr[-500:]}"}
    found = json.loads(done.stdout.splitlines()[-1])
    return {key: value.replace(str(folder), "..") if isinstance(value, str) else value for key, value in found.items()}


def fill(name: str, run: Path, size: int, digest: str, cache: Path | None = None) -> dict[str, Any]:
    """The victim on a full disk, and again when there is room."""
    victim = VICTIMS[name]
    found: str | None = digest
    complaints, part = "", 1.0
    for number, part in enumerate(PARTS):
        place = run.with_name(f"{run.name} {number}")
        place.mkdir(parents=True)
        room = max(PAGE, int(part * size))
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(place)], check=True)
        found, complaints = Run(victim, place, cache).ended()
        if found is None:
            break
    # What a user reads last; the trace before it names places in the code.
    said = next((line for line in reversed(complaints.strip().splitlines()) if "Error: " in line), "")
    kept = [path for path in place.rglob("*") if path.is_file() and not any(path.match(each) for each in SCRATCH)]
    subprocess.run(["mount", "-o", f"remount,size={16 * size + 2**26}", str(place)], check=True)
    again, later = Run(victim, place, cache).ended()
    left = [str(path.relative_to(place)) for pattern in SCRATCH for path in place.rglob(pattern)]
    lost = None
    if found is not None:
        lost = "did not notice"
    elif not all(words in said for words in ("OSError", "No space left", "Make room", str(place))):
        lost = f"was not clear: {complaints[-800:]}"
    elif again is None:
        lost = f"did not go on: {later}"
    elif again != digest:
        lost = f"returned {again} instead of {digest}"
    elif left:
        lost = f"left {left[:3]}"
    return {"victim": name, "room": part, "said": said, "files_kept": len(kept), "lost": lost}


if __name__ == "__main__":
    print(json.dumps(fill(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))))
