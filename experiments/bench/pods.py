"""What a TPU v5e-256 and a host of eight H100 would take for three well-known samplers: on paper, from counts.

    python -m experiments.bench.pods     # a minute on a CPU; writes experiments/results/pods.json and docs/pods.md

Nothing here was run on such machines. Flops of the image networks are XLA's count of their programs, lowered here and
not run; AlphaFold 3's are counted from the sizes in its supplement. Rounds are those of the shipped digits model with
a solver of the same kind (coverage_shipped.json), what is sent in a round is what the compiled programs send
(bench_spmd.json, whose counts `sent` reproduces), and peak rates are the vendors'.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from experiments.bench.pods_networks import ATOMS_PER_TOKEN, TOKENS, Workload, workloads
from experiments.common.figures import RESULTS, ROOT, write_result
from pcm_jax.files import write_text

COMMAND = "python -m experiments.bench.pods"
PAGE = ROOT / "docs" / "pods.md"


@dataclasses.dataclass(frozen=True)
class Machine:
    """Peak bfloat16 flop/s and bytes/s of memory of one chip; bytes/s that it sends to others; seconds of a hop or of a
    collective's start; seconds to launch a kernel.
    """  # noqa: D205

    name: str
    chips: int
    flops: float
    memory: float
    link: float
    hop: float
    launch: float
    ring: bool


MACHINES = (
    Machine("TPU v5e-256", 256, 197e12, 819e9, 100e9, 1e-6, 1e-6, True),
    Machine("8 x H100 SXM", 8, 989e12, 3.35e12, 450e9, 10e-6, 3e-6, False),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """utilisation: of the peak, of a network call. tol: whose rounds. kernels: of a round, beside the network."""

    utilisation: float = 0.4
    tol: float = 0.01
    kernels: int = 25
    results: Path = RESULTS
    page: Path = PAGE


def sent(rows: int, steps: int, batch: int, state: int, devices: int) -> dict[str, int]:
    """Bytes that a round's collectives write on a device: W rows of B samples of `state` float32 numbers.

    Seven numbers of every row and sample, what leaves each device's rows, and one state from the neighbour. A window
    that slides: also its last state, which rows that enter are copies of.
    """
    if devices == 1:
        return {}
    lanes = -(-rows // devices) * devices
    numbers, leaving, last = lanes * batch * 7, devices * batch * (state + 1), batch * state if rows < steps else 0
    return {"all-gather": 4 * (numbers + leaving), "collective-permute": 4 * batch * state, "all-reduce": 4 + 4 * last}


def call(work: Workload, machine: Machine, rows: int, utilisation: float) -> float:
    """Seconds of one network call: what it computes, or reading the weights."""
    flops = rows * work.rows * work.flops + work.shared
    return max(flops / (utilisation * machine.flops), work.weights / machine.memory)


def transfers(work: Workload, machine: Machine, window: int, batch: int, devices: int) -> float:
    """Seconds that a round's collectives take."""
    if devices == 1:
        return 0.0
    found = sent(window, work.steps, batch, work.state, devices)
    # Around a ring in both directions, or through one switch.
    start = machine.hop * (devices / 2 if machine.ring else 1)
    return sum(start + size / machine.link for size in found.values())


def best(work: Workload, machine: Machine, batch: int, rounds: Mapping[int, float], config: Config) -> dict[str, Any]:
    """The fastest mesh and window, beside the sequential sampler on the same machine."""
    parts = [count for count in range(1, min(batch, machine.chips) + 1) if batch % count == 0]
    sequential = work.steps * min(call(work, machine, batch // count, config.utilisation) for count in parts)
    choices = []
    for samples in parts:
        for window, count in rounds.items():
            devices = min(window, machine.chips // samples)
            rows = -(-window // devices)
            network = call(work, machine, rows * batch // samples, config.utilisation)
            others = transfers(work, machine, window, batch // samples, devices) + config.kernels * machine.launch
            # Of a window that slides its first state lies beside the others, and the noise goes round the devices.
            noise = rows * math.ceil(work.steps / (rows * devices)) if work.noise else 0
            arrays = 3 * rows + (1 if window == work.steps else 2) + noise
            choices.append(
                {
                    "machine": machine.name,
                    "sampler": work.name,
                    "batch": batch,
                    "sequential_seconds": sequential,
                    "mesh": [samples, devices],
                    "window": window,
                    "rounds": count,
                    "network_ms": 1e3 * network,
                    "rest_ms": 1e3 * others,
                    "seconds": count * (network + others),
                    "speedup": sequential / (count * (network + others)),
                    "state_mib": 4 * arrays * work.state * batch / samples / 2**20,
                    "sent_kib": sum(sent(window, work.steps, batch // samples, work.state, devices).values()) / 2**10,
                }
            )
    return min(choices, key=lambda choice: choice["seconds"])


def rounds_of(work: Workload, coverage: Mapping[str, Any], tol: float) -> dict[int, float]:
    """Mean rounds for each window, of the digits model's solver of that kind, stretched to this one's steps."""
    wanted = {"model": "digits", "solver": work.like, "method": "secant", "tol": tol}
    cells = [cell for cell in coverage["cells"] if wanted.items() <= cell.items()]
    if not cells:
        raise ValueError(f"coverage_shipped.json has no {work.like} at tol {tol:g}; run python -m experiments.coverage")
    return {cell["window"] or work.steps: math.ceil(work.stretch * cell["rounds"]) for cell in cells}


def _described(work: Mapping[str, Any]) -> str:
    guided = " (two rows, guided)" if work["rows"] == 2 else ""
    shared = f", {work['shared'] / 1e12:.2g} Tflop a call that all rows share" if work["shared"] else ""
    more = f", {work['stretch']:g} times as many for its {work['steps']} steps" if work["stretch"] != 1 else ""
    weights = f"{work['weights'] / 2**30:.2g} GiB of weights"
    flops = f"{work['rows'] * work['flops'] / 1e12:.3g} Tflop a step{guided}{shared}"
    states = f"states of {work['state']:,} numbers"
    return f"- {work['name']}: {work['steps']} steps, {flops}, {weights}, {states}; rounds of {work['like']}{more}."


def page(result: Mapping[str, Any]) -> str:
    """docs/pods.md."""
    titles = ("machine", "sampler", "batch", "sequential s", "data x window", "W", "rounds", "network ms", "rest ms")
    lines: list[tuple[str, ...]] = [(*titles, "parallel s", "speed-up", "state MiB", "sent KiB"), ("---",) * 13]
    for row in result["rows"]:
        numbers = (row["network_ms"], row["rest_ms"], row["seconds"], row["speedup"], row["state_mib"], row["sent_kib"])
        mesh = " x ".join(map(str, row["mesh"]))
        head = (row["machine"], row["sampler"], row["batch"], f"{row['sequential_seconds']:.3g}", mesh)
        lines.append((*map(str, (*head, row["window"], f"{row['rounds']:g}")), *(f"{value:.3g}" for value in numbers)))
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    config = result["config"]
    machines = "\n".join(
        f"- {each['name']}: {each['chips']} chips of {each['flops'] / 1e12:g} Tflop/s in bfloat16 and "
        f"{each['memory'] / 1e9:g} GB/s of memory; {each['link'] / 1e9:g} GB/s to the others; a collective starts in "
        f"{each['hop'] * 1e6:g} us{' a hop, around a ring in both directions' if each['ring'] else ''}; a kernel is "
        f"launched in {each['launch'] * 1e6:g} us."
        for each in result["machines"]
    )
    works = "\n".join(map(_described, result["workloads"]))
    return f"""# Pods, on paper

What the parallel sampler would take on machines that nobody here has run it on. Written by `{result["command"]}` from
experiments/results/pods.json; every row is the fastest mesh and window of those with measured rounds.

{table}

Sequential: the same machine, the batch spread over as many chips as divide it; where the speed-up is below 1 it is the
better one, as chips that have samples enough do not need the window. network, rest: of one round; rest is
what is sent and {config["kernels"]} small kernels. state: states, history and step noise on one chip. sent: what the
collectives of a round write on one chip.

## Assumptions

- A network call takes the longer of its flops at {config["utilisation"]:.0%} of the peak, whatever the number of
  rows, and of reading its weights once. At one row a chip real machines do worse, in the sequential sampler as in a
  round of one row a chip.
- Mean rounds to {config["tol"]:g} RMS of a sample of the shipped digits model, with the secant slope, without prior or
  adapter (coverage_shipped.json), rounded up; a batch takes as many as its slowest sample. Nobody
  has measured these networks' own: ParaTAA reports 13 to 18 rounds for 50 steps of SD-1.5 at a tighter tolerance.
- What is sent and held: the counts of the compiled programs (bench_spmd.json) at these sizes.
{machines}
{works}
- AlphaFold 3: {TOKENS:,} tokens of {ATOMS_PER_TOKEN} atoms; its network is counted from its supplement, the others
  are XLA's count.
- One chip holds the network and the activations of its rows; nothing is tensor-parallel, and the two rows of guidance
  stay on one chip.
"""


def main(config: Config) -> None:
    """Compute and write."""
    coverage = json.loads((config.results / "coverage_shipped.json").read_text())
    works = workloads()
    rows = [
        best(work, machine, batch, rounds_of(work, coverage, config.tol), config)
        for machine in MACHINES
        for work in works
        for batch in work.batches
    ]
    about = {"utilisation": config.utilisation, "tol": config.tol, "kernels": config.kernels}
    payload = {"machines": MACHINES, "workloads": works, "rows": rows}
    path = write_result("pods", payload, config=about, seed=0, command=COMMAND, results=config.results)
    write_text(config.page, page(json.loads(path.read_text())))
    Console().print(config.page.read_text(), markup=False)


if __name__ == "__main__":
    main(tyro.cli(Config))
