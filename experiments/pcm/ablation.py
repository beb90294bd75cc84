"""One table: what each part of the recipe is worth, on the digits model with DDIM-50.

    python -m experiments.pcm ablation

Every line fine-tunes for the same number of steps from the same seed and is measured on the same fresh noises: error
after each round with the secant, and mean rounds to the certificate. Each is kept in experiments/out as soon as it is
measured, so that a study that was stopped goes on where it was. About a minute a line on 2 CPU cores.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import pcm_jax as pcm
from experiments.common import study
from experiments.common.figures import command_line, record, write_result
from pcm_jax import lora
from pcm_jax.files import write_text
from pcm_jax.lora import LoRA
from pcm_jax.networks import FactoredLinen
from pcm_jax.pretrained import Pretrained
from pcm_jax.switching import Adapter, FeatureSpace, ParameterSpace
from pcm_jax.training import FinetuneConfig, Finetuned, Labels, OptimizerConfig, finetune

EVERY_ROW = (("target", "drifts"), ("rows", 16))
"""Several rounds trained on every row: what alpha(k), the source of X^k and the choice of k act on."""


@dataclasses.dataclass(frozen=True)
class Ablation:
    """steps: of each line. noises: fresh ones to measure on. tol: of the certificate."""

    steps: int = 200
    noises: int = 128
    batch: int = 64
    tol: float = 1e-2
    seed: int = 0
    out: Path = Path("experiments/out/ablation")


@dataclasses.dataclass(frozen=True)
class Line:
    """rank: of the LoRA, None tunes all weights. recipe: fields of FinetuneConfig. switch: None is the calibrated one.

    like: the line whose fine-tuned model is measured again, with another switch or in feature space. prior: rounds
    start from the model's prior, in training and here, and not from copies of the noise.
    """

    rank: int | None = 16
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    switch: Any = None
    like: str | None = None
    feature_space: bool = False
    prior: bool = False


def _rounds(count: int = 3, **loss: Any) -> dict[str, Any]:
    return {"paper": True, "paper_rounds": count, "loss": tuple((dict(EVERY_ROW) | loss).items())}


DEFAULT = "default: rank 16, switch in the loop"
FROM_PRIOR = "from the prior"
LATE = pcm.switching.calibrated(np.arange(50)[None] >= 40)
"""Round 1 from row 40 of 50 on: from the prior the measured switch keeps no row, and would show the base model."""
LINES: dict[str, Line] = {
    DEFAULT: Line(),
    "rank 2": Line(rank=2),
    "rank 8": Line(rank=8),
    "rank 32": Line(rank=32),
    "full fine-tuning": Line(rank=None),
    "without EMA": Line(recipe={"ema_decay": 0.0}),
    "pseudo-Huber": Line(recipe={"loss": (("rows", 16), ("distance", "pseudo_huber"))}),
    "late rows weigh more": Line(recipe={"loss": (("rows", 16), ("late", 2.0))}),
    "states, one base round unrolled": Line(recipe={"loss": (("target", "states"), ("unroll", 1))}),
    "the paper's recipe, 6 rounds": Line(recipe={"paper": True, "loss": ()}),
    "every row, 3 rounds, on-policy": Line(recipe=_rounds(on_policy=True, linearization=pcm.linearization.secant())),
    "every row, 3 rounds, offline": Line(recipe=_rounds()),
    "every row, 3 rounds, offline, without alpha(k)": Line(recipe=_rounds(alpha=False)),
    "every row, 3 rounds, offline, k by error": Line(recipe=_rounds() | {"round_weights": (0.6, 0.25, 0.15)}),
    "feature space": Line(like=DEFAULT, feature_space=True),
    "switch never": Line(like=DEFAULT, switch=pcm.switching.never()),
    "switch always": Line(like=DEFAULT, switch=pcm.switching.always()),
    "switch after(1)": Line(like=DEFAULT, switch=pcm.switching.after(1)),
    "switch after(2)": Line(like=DEFAULT, switch=pcm.switching.after(2)),
    "switch linear(1.0, 6)": Line(like=DEFAULT, switch=pcm.switching.linear(1.0, 6)),
    "switch frontier(12)": Line(like=DEFAULT, switch=pcm.switching.frontier(12)),
    "switch adaptive(0.3)": Line(like=DEFAULT, switch=pcm.switching.adaptive(0.3)),
    FROM_PRIOR: Line(prior=True),
    "from the prior, switch never": Line(like=FROM_PRIOR, switch=pcm.switching.never(), prior=True),
    "from the prior, round 1 from row 40": Line(like=FROM_PRIOR, switch=LATE, prior=True),
    "from the prior, late rows weigh more, round 1 from row 40": Line(
        recipe={"loss": (("rows", 16), ("late", 6.0))}, switch=LATE, prior=True
    ),
    "from the prior, one base round unrolled, round 1 from row 40": Line(
        recipe={"loss": (("target", "states"), ("unroll", 1))}, switch=LATE, prior=True
    ),
    "from the prior, two base rounds unrolled, round 1 from row 40": Line(
        recipe={"loss": (("target", "states"), ("unroll", 2))}, switch=LATE, prior=True
    ),
}


def run_ablation(config: Ablation, console: Console) -> dict[str, Any]:
    """All lines, the table and the JSON."""
    console.width = max(console.width, 140)
    model = pcm.pretrained.load("digits")
    lines: dict[str, dict[str, Any]] = {}
    for name, line in LINES.items():
        known = config.out / f"{_slug(name)}.json"
        about = {"line": repr(line), "config": repr(config)}
        if known.exists() and (kept := json.loads(known.read_text()))["about"] == about:
            lines[name] = kept["outcome"]
            continue
        console.print(name)
        lines[name] = _measure(config, model, line)
        write_text(known, json.dumps({"about": about, "outcome": lines[name]}))
    _show(lines, console)
    command = command_line("experiments.pcm ablation", config)
    write_result("pcm_ablation", {"lines": lines}, config=config, seed=config.seed, command=command)
    # The best that an adapter does from the prior, over rounds from the prior without one.
    tuned = [lines[name]["rounds"] for name in LINES if name.startswith(FROM_PRIOR) and name.endswith("row 40")]
    without = lines[f"{FROM_PRIOR}, switch never"]["rounds"]
    record("digits.ddim50.rounds.pcm_over_secant", min(filter(None, tuned)) / without, command=command)
    return lines


def _measure(config: Ablation, model: Pretrained, line: Line) -> dict[str, Any]:
    """Fine-tune, then sample."""
    source = LINES[line.like] if line.like else line
    tuned = _tuned(config, model, source, line.like or next(name for name, found in LINES.items() if found is line))
    adapter: Adapter
    if not isinstance(tuned.tuned, LoRA):
        adapter = FeatureSpace(tuned.tuned)
    elif line.feature_space:
        adapter = FeatureSpace(lora.merge(model.params, tuned.tuned))
    else:
        adapter = ParameterSpace(tuned.tuned, FactoredLinen(model.model_fn.module))  # type: ignore[attr-defined]
    table = tuned.calibration.table
    switch = line.switch or (pcm.switching.calibrated(table) if len(table) else pcm.switching.never())
    squares, rounds, converged = [], [], 0
    for start in range(0, config.noises, config.batch):
        size = min(config.batch, config.noises - start)
        case = study.problem(model, study.solvers(model)["DDIM-50"], batch=size, seed=20_000 + start)
        exact = np.asarray(case.sequential().sample)
        how = {"adapter": adapter, "switch": switch, "prior": model.prior if line.prior else None}
        out = case.picard(tol=config.tol, max_rounds=24, return_rounds=True, **how)
        squares.append(
            np.mean((np.asarray(out.iterates, np.float64) - exact) ** 2, axis=tuple(range(2, exact.ndim + 1)))
        )
        rounds += np.asarray(out.stats.rounds).tolist()
        converged += int(np.sum(out.converged))
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(tuned.tuned)),
        "evaluations": tuned.evaluations,
        "borders": list(tuned.calibration.borders),
        "error": np.sqrt(np.mean(np.concatenate(squares, 1), 1))[:8].tolist(),
        "rounds": float(np.mean(rounds)) if converged == config.noises else None,
        "converged": converged / config.noises,
    }


def _tuned(config: Ablation, model: Pretrained, line: Line, name: str) -> Finetuned:
    """The line's fine-tuned model; from its checkpoints where it has been trained before."""
    recipe: dict[str, Any] = {"phases": (config.steps,), "loss": (("rows", 16),), "seed": config.seed} | dict(
        line.recipe
    )
    decay = recipe.pop("ema_decay", 0.99)
    whole = line.rank is None
    rate = 5e-4 if whole else 2e-3
    return finetune(
        model.model_fn,
        model.params,
        study.solvers(model)["DDIM-50"],
        model.sample_shape,
        model.params if line.rank is None else lora.init(model.params, line.rank, jax.random.key(config.seed)),
        FinetuneConfig(
            **recipe,
            batch_size=16,
            optimizer=OptimizerConfig(rate, warmup_steps=20, ema_decay=decay),
        ),
        draw_cond=Labels(model.num_classes),
        factored=None if whole else FactoredLinen(model.model_fn.module),  # type: ignore[attr-defined]
        prior=model.prior if line.prior else None,
        directory=str(config.out / _slug(name)),
    )


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _show(lines: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    table = Table(title="RMS error after each round, and rounds to the certificate (mean)")
    for title in ("", "parameters", "evaluations", "borders", *map(str, range(1, 7)), "certified"):
        table.add_column(title, justify="left" if not title else "right")
    for name, line in lines.items():
        table.add_row(
            name,
            f"{line['parameters']:,}",
            f"{line['evaluations']:,.0f}",
            ", ".join(map(str, line["borders"])),
            *(f"{error:.3f}" for error in line["error"][:6]),
            f"{line['rounds']:.2f}" if line["rounds"] else f"{line['converged']:.0%} converge",
        )
    console.print(table)
