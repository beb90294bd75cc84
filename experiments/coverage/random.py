"""The campaign of random analytic cases: how many certified samples are further off than their tolerance."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

import pcm_jax
from experiments.common.figures import command_line, record, write_result
from experiments.coverage import analytic
from pcm_jax.files import write_text

GROUP = 16
"""Cases of 8 samples that share a compiled program."""


@dataclasses.dataclass(frozen=True)
class Random:
    """samples: how many random ones. out: folder of what is measured already."""

    samples: int = 10_000
    seed: int = 0
    out: Path = Path("experiments/out/coverage/random")


def run_random(config: Random, console: Console, *, progress: bool = True) -> dict[str, Any]:
    """All groups, then the count, the list of failures with their seeds, and the figures."""
    groups = -(-config.samples // (GROUP * analytic.BATCH))
    config.out.mkdir(parents=True, exist_ok=True)
    seeds = range(config.seed, config.seed + groups)
    found = [_kept(config.out, seed) for seed in track(seeds, "random cases", console=console, disable=not progress)]
    summary = summarise(found)
    command = command_line("experiments.coverage random", config, always=(), never=("out",))
    about = dataclasses.replace(config, out=Path("."))
    write_result("coverage_random", summary, config=about, seed=config.seed, command=command)
    for name in ("over", "worst_ratio"):
        record(f"certificate.random_{name}", summary[name], command=command)
    console.print({name: value for name, value in summary.items() if name != "failures"})
    return summary


def measure(seed: int, cases: int = GROUP) -> dict[str, Any]:
    """One group: counts, and each sample further off than its tolerance. Odd groups run in float64."""
    program = analytic.draw_program(seed)
    dtype = "float64" if seed % 2 else "float32"
    counts = dict.fromkeys(("samples", "certified", "judged", "over", "over_3", "leaked", "unbounded"), 0)
    failures: list[dict[str, Any]] = []
    worst, caution, rounds = 0.0, [], []
    with jax.enable_x64(True):
        for index in range(cases):
            case = analytic.run_case(program, seed, index, dtype)
            certified = case["converged"]
            judged = certified & np.isfinite(case["allowance"]) & case["finite"]
            with np.errstate(invalid="ignore"):
                ratio = np.where(judged, np.maximum(case["error"] - case["allowance"], 0.0) / case["tol"], 0.0)
            # A sample that is not a number must not be certified, nor one whose sequential sample is none.
            leaked = certified & ~(np.isfinite(case["error"]) & case["finite"])
            counts["samples"] += certified.size
            counts["certified"] += int(certified.sum())
            counts["judged"] += int(judged.sum())
            counts["over"] += int((ratio > 1).sum())
            counts["over_3"] += int((ratio > 3).sum())
            counts["leaked"] += int(leaked.sum())
            counts["unbounded"] += int((certified & ~(case["bound"] <= case["tol"] * (1 + 1e-6))).sum())
            worst = max(worst, float(ratio.max()))
            good = judged & (case["error"] > 1e-3 * case["tol"])
            caution += (case["bound"][good] / case["error"][good]).tolist()
            rounds += case["rounds"][certified].tolist()
            failures += [
                {"seed": seed, "index": index, "sample": int(at), "ratio": float(ratio[at]), "tol": case["tol"]}
                | {"error": float(case["error"][at]), "bound": float(case["bound"][at]), "dtype": dtype}
                | {"program": dataclasses.asdict(program), "network": case["network"]}
                for at in np.flatnonzero((ratio > 1) | leaked)
            ]
    return counts | {"worst_ratio": worst, "failures": failures, "caution": caution, "rounds": rounds}


def summarise(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all groups. Shares are of the certified samples that round-off leaves something to say about."""
    names = ("samples", "certified", "judged", "over", "over_3", "leaked", "unbounded")
    totals = {name: sum(group[name] for group in found) for name in names}
    judged = max(1, totals["judged"])
    caution = np.concatenate([np.asarray(group["caution"], float) for group in found])
    return {
        "counts": totals,
        "over": totals["over"] / judged,
        "over_3": totals["over_3"] / judged,
        "worst_ratio": max(group["worst_ratio"] for group in found),
        "median_bound_over_error": float(np.median(caution)) if caution.size else None,
        "mean_rounds": float(np.mean(np.concatenate([np.asarray(group["rounds"], float) for group in found]))),
        "failures": sorted((case for group in found for case in group["failures"]), key=lambda case: -case["ratio"]),
    }


def _kept(folder: Path, seed: int) -> dict[str, Any]:
    """From the file if this code has measured the group before."""
    path = folder / f"{seed}.json"
    code = _fingerprint()
    if path.exists() and (known := json.loads(path.read_text()))["code"] == code:
        return dict(known["found"])
    found = measure(seed)
    write_text(path, json.dumps({"code": code, "found": found}))
    return found


def _fingerprint() -> str:
    """Of the sampler's code and the cases'."""
    digest = hashlib.sha256()
    rooms = ("sampling", "recurrence", "solvers", "switching", "parallel")
    places = [
        *(path for room in rooms for path in sorted((Path(pcm_jax.__file__).parent / room).glob("*.py"))),
        *sorted(Path(__file__).parent.glob("*.py")),
    ]
    for path in places:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
