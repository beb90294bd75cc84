"""Picard consistency fine-tuning of the shipped models: LoRA adapters, and what they gain over Picard.

    python -m experiments.pcm train --model digits --solver DDIM-50    # trains and ships digits-ddim50
    python -m experiments.pcm study --model digits                     # error per round, certified rounds: JSON and
    plot python -m experiments.pcm study --model fashion --solvers DDIM-50

Training a digits adapter takes about two minutes on 2 CPU cores, a Fashion-MNIST adapter about ten. A run that was
stopped goes on where it was when the same command is given again; delete its folder in experiments/out to start anew.
On a GPU machine: make pcm PYTHON=python3 VENV= ARGS="train --model fashion --solver DDIM-50".
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console

from experiments import study
from experiments.adapter_card import card
from experiments.figures import RESULTS, device, record, versions, write_result
from experiments.pcm_study import Study, run_study
from pcm_jax import lora
from pcm_jax.networks import FactoredLinen, LinenModel
from pcm_jax.pretrained import ADAPTERS, load, save_adapter
from pcm_jax.training import FinetuneConfig, Labels, OptimizerConfig, finetune


@dataclasses.dataclass(frozen=True)
class Train:
    """Fine-tune a LoRA of a shipped model for one solver, measure its switch, and ship both.

    rank: of the LoRA. phases: steps of each training run; the switch is measured after every one. rows: random rows of
    each trajectory that a step trains. out: folder of the run. ship: write the package's files.
    """

    model: str = "digits"
    solver: str = "DDIM-50"
    rank: int = 16
    phases: tuple[int, ...] = (60, 240)
    batch_size: int = 16
    rows: int = 8
    learning_rate: float = 2e-3
    ema_decay: float = 0.99
    heldout: int = 32
    out: Path | None = None
    ship: bool = True
    seed: int = 0

    @property
    def name(self) -> str:
        return study.adapter_name(self.model, self.solver)


def base_evaluations(model: str) -> float:
    """Forward evaluations that training the base model took, three for every image of a batch; from its results."""
    config = json.loads((RESULTS / f"{model}_train.json").read_text())["config"]
    return 3.0 * config["steps"] * config["batch_size"]


def run_train(config: Train, console: Console) -> dict[str, Any]:
    """Fine-tune, measure, and write."""
    model = load(config.model)
    assert isinstance(model.model_fn, LinenModel)
    solver = study.solvers(model)[config.solver]
    command = f"python -m experiments.pcm train --model {config.model} --solver {config.solver}"
    start = time.perf_counter()
    result = finetune(
        model.model_fn,
        model.params,
        solver,
        model.sample_shape,
        lora.init(model.params, config.rank, jax.random.key(config.seed)),
        FinetuneConfig(
            phases=config.phases,
            batch_size=config.batch_size,
            optimizer=OptimizerConfig(config.learning_rate, warmup_steps=20, ema_decay=config.ema_decay),
            heldout=config.heldout,
            loss=(("rows", config.rows),),
            seed=config.seed,
        ),
        draw_cond=Labels(model.num_classes),
        factored=FactoredLinen(model.model_fn.module),
        directory=str(config.out or Path("experiments/out") / f"pcm-{config.name}"),
        report=console.print,
    )
    calibration = result.calibration
    share = result.evaluations / base_evaluations(config.model)
    outcome: dict[str, Any] = {
        "adapter": config.name,
        "parameters": lora.num_parameters(result.tuned),
        "borders": calibration.borders,
        "table": calibration.table,
        "base_drift_error": calibration.base_error,
        "tuned_drift_error": calibration.tuned_error,
        "error_without_and_with": calibration.error,
        "evaluations": result.evaluations,
        "share_of_base_training": share,
        "seconds": time.perf_counter() - start,
    }
    console.print({name: outcome[name] for name in ("borders", "evaluations", "share_of_base_training", "seconds")})
    if config.ship:
        about = {"solver": config.solver, "command": command, "device": device(), "versions": versions()}
        path = save_adapter(ADAPTERS / f"{config.name}.safetensors", result.tuned, calibration.table, model, about)
        path.with_suffix(".md").write_text(card(config, outcome, about))
        study_name = "pcm_" + config.name.replace("-", "_")
        write_result(study_name, outcome, config=config, seed=config.seed, command=command)
        if config.solver == "DDIM-50":
            record(f"{config.model}.finetune_share", float(share), command=command)
        console.print(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB) and its card")
    return outcome


Command = Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Study, tyro.conf.subcommand("study")]


def main(config: Train | Study) -> None:
    """Run one of the two."""
    console = Console()
    if isinstance(config, Train):
        run_train(config, console)
    else:
        run_study(config, console)


if __name__ == "__main__":
    main(tyro.cli(Command))
