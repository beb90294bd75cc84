"""What the studies measured, as JSON: the only writer of experiments/results.

`write_result` keeps everything about one run of a study in `<study>.json`; `record` copies a headline number into the
flat `figures.json`. Both say on which device, by which command and at which commit. Of several processes that run one
study together the first one writes.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax
from pcm_jax.files import write_text

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "experiments" / "results"
STORAGE = jnp.bfloat16
"""Of the weights that ship; what that costs is measured by `experiments.models.storage`."""
_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")


def record(name: str, value: float | int | str, *, command: str, results: Path = RESULTS) -> None:
    """Set one headline number in figures.json and leave the others as they are.

    Args:
        name: dotted, lower case: `demo.ddim50.rounds`.
        value: a finite number or a string; NumPy and JAX scalars are converted.
        command: what a reader types to get it again.
        results: the folder to write into.

    Raises:
        ValueError: the name is not of that form, or the value is no finite scalar.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"figure name {name!r} must be lower-case words joined by dots, such as demo.ddim50.rounds")
    plain = _plain(value, name)
    if not isinstance(plain, (bool, int, float, str)):
        raise ValueError(f"figure {name} must be one number or string, got {value!r}; keep the rest in write_result")
    if jax.process_index():
        return
    path = results / "figures.json"
    figures = json.loads(path.read_text()) if path.exists() else {}
    figures[name] = {"value": plain, "device": device(), "command": command, "commit": commit()}
    _write(path, dict(sorted(figures.items())))


def write_result(
    study: str, payload: Mapping[str, Any], *, config: Any, seed: int, command: str, results: Path = RESULTS
) -> Path:
    """Write `<study>.json`: the payload's entries beside config, seed, versions, device, command, commit and date.

    Args:
        study: lower-case name, the file's stem.
        payload: results; arrays and dataclasses are converted. Write None where a number does not exist.
        config: the study's config, a dataclass or a mapping.
        seed: the seed that everything random came from.
        command: what a reader types to get it again.
        results: the folder to write into.

    Returns:
        The file's path.

    Raises:
        ValueError: a bad study name, a payload entry with the name of a field above, or a NaN or inf.
        TypeError: something that JSON cannot hold.
    """
    if not re.fullmatch(r"[a-z0-9_]+", study) or study == "figures":
        raise ValueError(f"study {study!r} must be a lower-case word other than figures, such as demo")
    about = {
        "study": study,
        "config": _plain(config, "config"),
        "seed": seed,
        "versions": versions(),
        "device": device(),
        "command": command,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    taken = sorted(about.keys() & payload.keys())
    if taken:
        raise ValueError(f"payload entries {', '.join(taken)} are written by write_result itself; rename them")
    path = results / f"{study}.json"
    content = about | _plain(payload, "payload")
    if jax.process_index() == 0:
        _write(path, content)
    return path


def command_line(module: str, config: Any, *, always: Sequence[str] = (), never: Sequence[str] = ("out",)) -> str:
    """`python -m MODULE` with every flag of the config, a dataclass, that is not the default.

    Args:
        module: and a subcommand: `experiments.pcm train`.
        config: the study's.
        always: fields to name even so.
        never: fields that change no number, such as where to write.
    """
    flags = [
        f"--{field.name.replace('_', '-')} {shlex.join(map(str, value if isinstance(value, tuple) else (value,)))}"
        for field in dataclasses.fields(config)
        if field.name not in never and ((value := getattr(config, field.name)) != field.default or field.name in always)
    ]
    return " ".join([f"python -m {module}", *flags])


def device() -> str:
    """The first JAX device's kind, its platform, how many there are, and the host's usable cores."""
    devices = jax.devices()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    plural = "s" if len(devices) > 1 else ""
    return f"{devices[0].device_kind} ({devices[0].platform}, {len(devices)} device{plural}, {cores} cores)"


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that decide a result; None for one that is not installed."""
    packages = {name: _version(name) for name in ("jax", "jaxlib", "flax")}
    return {"python": platform.python_version(), **packages, "pcm_jax": pcm_jax.__version__}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None  # a benchmark of the core runs without a network library


def commit(root: Path = ROOT) -> str:
    """Short hash of HEAD, "+dirty" when more than the results changed since, "unknown" outside a repository."""
    try:
        if Path(git(root, "rev-parse", "--show-toplevel")).resolve() != root.resolve():
            return "unknown"  # an unpacked archive that lies inside somebody else's repository
        head = git(root, "rev-parse", "--short", "HEAD")
        changes = git(root, "status", "--porcelain", "--", ".", ":(exclude)experiments/results")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+dirty" if changes else head


def git(root: Path, *arguments: str) -> str:
    """What git prints about the repository at `root`."""
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def _plain(value: Any, where: str) -> Any:
    """`value` of JSON's own types; `where` names the entry in errors."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        value = np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(entry, f"{where}[{index}]") for index, entry in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, which JSON cannot hold; write None and say why beside it")
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{where} is a {type(value).__name__}, which JSON cannot hold; convert it first")


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace `path` in one step, so that an interrupted run leaves the old file."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
