"""What campaigns share: cases one after the other, kept as they are measured, and a result that counts failures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from experiments.common.figures import RESULTS, ROOT, record, write_result

Case = dict[str, Any]
"""JSON; what a campaign found out about one case."""


@dataclasses.dataclass(frozen=True)
class Options:
    """cases: how many; the first ones of a longer campaign are the same. out: folder of what is measured already."""

    cases: int
    seed: int = 0
    out: Path = Path("experiments/out/campaigns")
    results: Path = RESULTS


SAMPLER = tuple(
    f"pcm_jax/{room}" for room in ("sampling", "recurrence", "scanning", "solvers", "switching", "parallel")
)
"""Folders of the code that random samples run through."""
LIBRARY = ("pcm_jax", "experiments/campaigns")


def run_cases(
    name: str,
    options: Options,
    measure: Callable[[int], Case],
    console: Console,
    *,
    progress: bool = True,
    code: Sequence[str] = LIBRARY,
) -> list[Case]:
    """`measure(case)` for all of them; those that this code has measured before are read from their file.

    A stopped campaign goes on with the next case: a line is written after each. code: folders and files, from the
    repository's root, that a case's outcome depends on.
    """
    path = options.out / f"{name}-{options.seed}-{code_fingerprint(code)}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = {case["case"]: case for case in _lines(path) if case["case"] < options.cases}
    with path.open("a") as file:
        for index in track(range(options.cases), name, console=console, disable=not progress):
            if index not in found:
                found[index] = {"case": index} | measure(index)
                file.write(json.dumps(found[index]) + "\n")
                file.flush()
    return [found[index] for index in range(options.cases)]


def finish(
    name: str, options: Options, payload: Mapping[str, Any], figures: Mapping[str, float], console: Console
) -> str:
    """campaign_<name>.json, and its numbers in figures.json as campaign.<figure>; returns the command of both."""
    command = f"python -m experiments.campaigns {name} --cases {options.cases}"
    config = {"cases": options.cases, "seed": options.seed}
    write_result(
        f"campaign_{name}", payload, config=config, seed=options.seed, command=command, results=options.results
    )
    for figure, value in figures.items():
        record(f"campaign.{figure}", value, command=command, results=options.results)
    console.print({**payload.get("counts", {}), **figures})
    return command


def record_over(command: str, results: Path) -> None:
    """campaign.exactness_over: of the certified samples and carries of both random campaigns, those over their tol."""
    over = certified = 0
    for name in ("exactness", "recurrences"):
        path = results / f"campaign_{name}.json"
        if path.exists():
            counts = json.loads(path.read_text())["counts"]
            over, certified = over + counts["over"] + counts["leaked"], certified + counts["judged"]
    record("campaign.exactness_over", over / max(1, certified), command=command, results=results)


def code_fingerprint(code: Sequence[str]) -> str:
    """Of the Python files in these folders, and of these files."""
    digest = hashlib.sha256()
    for place in code:
        path = ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _lines(path: Path) -> list[Case]:
    """What a stopped campaign wrote; its last line may be half."""
    if not path.exists():
        return []
    whole = path.read_bytes().split(b"\n")
    path.write_bytes(b"".join(line + b"\n" for line in whole[:-1]))
    return [json.loads(line) for line in whole[:-1]]
