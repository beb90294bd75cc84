"""What campaigns share: cases one after the other, kept as they are measured, and a result that counts failures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

import pcm_jax
from experiments.figures import RESULTS, record, write_result

Case = dict[str, Any]
"""JSON; what a campaign found out about one case."""


@dataclasses.dataclass(frozen=True)
class Options:
    """cases: how many; the first ones of a longer campaign are the same. out: folder of what is measured already."""

    cases: int
    seed: int = 0
    out: Path = Path("experiments/out/campaigns")
    results: Path = RESULTS


def run_cases(
    name: str, options: Options, measure: Callable[[int], Case], console: Console, *, progress: bool = True
) -> list[Case]:
    """`measure(case)` for all of them; those that this code has measured before are read from their file.

    A stopped campaign goes on with the next case: a line is written after each.
    """
    path = options.out / f"{name}-{options.seed}-{code_fingerprint()}.jsonl"
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
) -> None:
    """campaign_<name>.json, and its headline numbers in figures.json as campaign.<figure>."""
    command = f"python -m experiments.campaigns {name} --cases {options.cases}"
    config = {"cases": options.cases, "seed": options.seed}
    write_result(
        f"campaign_{name}", payload, config=config, seed=options.seed, command=command, results=options.results
    )
    for figure, value in figures.items():
        record(f"campaign.{figure}", value, command=command, results=options.results)
    console.print(dict(figures))


def code_fingerprint() -> str:
    """Of the library's code and the campaigns'."""
    digest = hashlib.sha256()
    places = [*Path(pcm_jax.__file__).parent.rglob("*.py"), *Path(__file__).parent.glob("*.py")]
    for path in sorted(places):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _lines(path: Path) -> list[Case]:
    """What a stopped campaign wrote; its last line may be half."""
    if not path.exists():
        return []
    whole = path.read_bytes().split(b"\n")
    path.write_bytes(b"".join(line + b"\n" for line in whole[:-1]))
    return [json.loads(line) for line in whole[:-1]]
