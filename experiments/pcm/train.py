"""Fine-tune the adapter of a shipped model for one solver, measure its switch, and ship both."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from experiments.common import study
from experiments.common.figures import RESULTS, STORAGE, command_line, device, record, versions, write_result
from experiments.pcm.adapter_card import card
from experiments.pcm.subject import base_evaluations, subject
from pcm_jax import lora
from pcm_jax.files import write_text
from pcm_jax.networks import FactoredLinen
from pcm_jax.pretrained import ADAPTERS, save_adapter
from pcm_jax.switching import ParameterSpace
from pcm_jax.training import (
    Base,
    FinetuneConfig,
    Labels,
    OptimizerConfig,
    calibrate,
    collect,
    finetune,
    measure_preview,
    solve_batch,
)
from pcm_jax.trees import fingerprint


@dataclasses.dataclass(frozen=True)
class Train:
    """Fine-tune a LoRA of a shipped model for one solver, measure its switch for every slope, and ship them.

    rank: of the LoRA. phases: steps of each training run; the switch is measured after every one. rows: random rows of
    each trajectory that a step trains. solved: network evaluations spent on exact solutions to train on, and heldout:
    on those that the switch is measured on; a longer trajectory gets fewer of them. out: folder of the run. ship: write
    the package's files.
    """

    model: str = "digits"
    solver: str = "DDIM-50"
    rank: int = 16
    phases: tuple[int, ...] | None = None
    batch_size: int | None = None
    rows: int | None = None
    solved: int | None = None
    heldout: int | None = None
    learning_rate: float = 2e-3
    ema_decay: float = 0.99
    prior: bool = False
    out: Path | None = None
    ship: bool = True
    seed: int = 0

    @property
    def name(self) -> str:
        return study.adapter_name(self.model, self.solver)

    @property
    def command(self) -> str:
        return command_line("experiments.pcm train", self, always=("model", "solver"), never=("out", "ship"))


RECIPES: dict[str, dict[str, Any]] = {
    "digits": {"phases": (400,), "batch_size": 16, "rows": 16, "solved": 40_000, "heldout": 1_200},
    "fashion": {"phases": (330,), "batch_size": 8, "rows": 8, "solved": 15_000, "heldout": 500},
    "emoji32": {"phases": (660,), "batch_size": 8, "rows": 8, "solved": 30_000, "heldout": 1_000},
    "emoji32-latent": {"phases": (384,), "batch_size": 2, "rows": 8, "solved": 5_400, "heldout": 216},
}
"""What `Train` leaves open: as much as a tenth of the base model's training pays for."""


def run_train(config: Train, console: Console) -> dict[str, Any]:
    """Fine-tune, measure, and write."""
    model = subject(config.model, config.solver)
    solver = model.solver
    recipe = {name: getattr(config, name) for name in RECIPES[config.model]}
    recipe = {name: RECIPES[config.model][name] if value is None else value for name, value in recipe.items()}
    folder = config.out or Path("experiments/out") / f"pcm-{config.name}"
    if config.prior and model.prior is None:
        raise ValueError(f"no prior ships with {config.model}; leave --prior out")
    prior = model.prior if config.prior else None
    base = Base(model.params, solver, prior)
    draw, heldout = Labels(model.num_classes), max(4, recipe["heldout"] // len(solver))
    start = time.perf_counter()
    collect(
        model.model_fn,
        model.params,
        solver,
        model.sample_shape,
        folder / "trajectories",
        num_trajectories=recipe["solved"] // len(solver),
        seed=config.seed + 1,
        draw_cond=draw,
    )
    result = finetune(
        model.model_fn,
        model.params,
        solver,
        model.sample_shape,
        lora.init(model.params, config.rank, jax.random.key(config.seed)),
        FinetuneConfig(
            phases=recipe["phases"],
            batch_size=recipe["batch_size"],
            optimizer=OptimizerConfig(config.learning_rate, warmup_steps=20, ema_decay=config.ema_decay),
            heldout=heldout,
            evaluate_every=1_000,
            evaluate_rounds=3,
            loss=(("rows", recipe["rows"]),),
            seed=config.seed,
        ),
        draw_cond=draw,
        factored=FactoredLinen(model.model_fn.module),
        stored=str(folder / "trajectories"),
        directory=str(folder),
        prior=prior,
        report=console.print,
    )
    measure = solve_batch(
        model.model_fn,
        base,
        model.sample_shape,
        heldout,
        draw,
        jax.random.key(config.seed + 2),
    )
    plain = calibrate(
        model.model_fn,
        base,
        ParameterSpace(result.tuned, FactoredLinen(model.model_fn.module)),
        measure,
        linearization=study.SLOPES["identity"],
    )
    previews = {
        slope: measure_preview(
            model.model_fn,
            base,
            measure,
            adapter=result.adapter,
            table=table,
            linearization=study.SLOPES[slope],
        )
        for slope, table in (("secant", result.calibration.table), ("identity", plain.table))
    }
    evaluations = result.evaluations + heldout * len(solver) + plain.evaluations
    evaluations += sum(preview.evaluations for preview in previews.values())
    outcome: dict[str, Any] = {
        "adapter": config.name,
        "recipe": recipe,
        "parameters": lora.num_parameters(result.tuned),
        "calibration": {"secant": result.calibration, "identity": plain},
        "borders": {"secant": result.calibration.borders, "identity": plain.borders},
        "previews": previews,
        "heldout": heldout,
        "evaluations": evaluations,
        "share_of_base_training": evaluations / base_evaluations(config.model),
        "seconds": time.perf_counter() - start,
    }
    console.print({name: outcome[name] for name in ("borders", "evaluations", "share_of_base_training", "seconds")})
    if config.ship:
        about = {
            "prior": None if prior is None else fingerprint(prior),
            "solver": config.solver,
            "command": config.command,
            "device": device(),
            "versions": versions(),
        }
        tables = {"secant": result.calibration.table, "identity": plain.table}
        rows = {slope: preview.rows for slope, preview in previews.items()}
        path = ADAPTERS / f"{config.name}.safetensors"
        save_adapter(path, result.tuned, tables, model, about, rows, storage=STORAGE)
        study_name = "pcm_" + config.name.replace("-", "_")
        written = write_result(study_name, outcome, config=config, seed=config.seed, command=config.command)
        write_text(path.with_suffix(".md"), card(json.loads(written.read_text())))
        _record_share(config)
        console.print(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB) and its card")
    return outcome


def _record_share(config: Train) -> None:
    """The dearest of the model's adapters."""
    name = config.model.replace("-", "_")
    results = [json.loads(path.read_text()) for path in RESULTS.glob(f"pcm_{name}_*.json")]
    shares = [result["share_of_base_training"] for result in results if result["config"]["model"] == config.model]
    record(f"{name}.finetune_share", max(shares), command=config.command)
