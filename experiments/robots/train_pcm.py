"""Picard consistency fine-tuning of the policies, on observations of the demonstrations.

    python -m experiments.robots train-pcm --policy pusht
    python -m experiments.robots train-pcm --policy metaworld --task push     # a LoRA for one task alone

Exact solutions of the base policy are stored once and trained on, with observations of the episodes that it was trained
on; the switch is measured on noises that no training saw.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from experiments.common.figures import RESULTS, STORAGE, command_line, device, versions, write_result
from experiments.robots.train import Name, observations
from pcm_jax import lora
from pcm_jax.networks import FactoredLinen, LinenModel
from pcm_jax.pretrained import ADAPTERS, save_adapter
from pcm_jax.pretrained.policies import load_policy
from pcm_jax.training import (
    Base,
    Drawn,
    FinetuneConfig,
    OptimizerConfig,
    collect,
    finetune,
    measure_preview,
    solve_batch,
)
from pcm_jax.trees import fingerprint


@dataclasses.dataclass(frozen=True)
class TrainPCM:
    """Fine-tune a LoRA of a shipped policy and measure its switch.

    task: of Meta-World, None for one LoRA for all. solved: trajectories to train on. phases: steps of each training
    run. held_out: as `train` had it. ship: write the package's file; otherwise the adapter goes to `out`, for
    `eval --adapter`.
    """

    policy: Name = "pusht"
    data: Path | None = None
    task: str | None = None
    rank: int = 16
    phases: tuple[int, ...] = (1500,)
    solved: int = 2000
    heldout: int = 128
    rows: int = 25
    batch_size: int = 32
    learning_rate: float = 2e-3
    ema_decay: float = 0.99
    held_out: int = 50
    out: Path | None = None
    ship: bool = True
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.policy}-ddpm100" if self.task is None else f"{self.policy}-{self.task}-ddpm100"


def run_train_pcm(config: TrainPCM, console: Console) -> dict[str, Any]:
    """Solve, fine-tune, measure, write."""
    policy = load_policy(config.policy)
    assert isinstance(policy.model_fn, LinenModel)
    seen = observations(policy, config.policy, config.data, config.held_out, task=config.task)
    folder = config.out or Path("experiments/out/robots") / f"pcm-{config.name}"
    shape = (policy.horizon, policy.action.size)
    start = time.perf_counter()
    collect(
        policy.model_fn,
        policy.params,
        policy.solver,
        shape,
        folder / "trajectories",
        num_trajectories=config.solved,
        seed=config.seed + 1,
        draw_cond=Drawn(seen),
    )
    result = finetune(
        policy.model_fn,
        policy.params,
        policy.solver,
        shape,
        lora.init(policy.params, config.rank, jax.random.key(config.seed)),
        FinetuneConfig(
            phases=config.phases,
            batch_size=config.batch_size,
            optimizer=OptimizerConfig(config.learning_rate, warmup_steps=20, ema_decay=config.ema_decay),
            heldout=config.heldout,
            loss=(("rows", config.rows),),
            seed=config.seed,
        ),
        draw_cond=Drawn(seen),
        factored=FactoredLinen(policy.model_fn.module),
        stored=str(folder / "trajectories"),
        directory=str(folder),
        prior=policy.prior,
        report=console.print,
    )
    base = Base(policy.params, policy.solver, policy.prior)
    draw, key = Drawn(seen), jax.random.key(config.seed + 2)
    fresh = solve_batch(policy.model_fn, base, shape, config.heldout, draw, key)
    how: dict[str, Any] = {"adapter": result.adapter, "table": result.calibration.table, "rounds": 8}
    preview = measure_preview(policy.model_fn, base, fresh, **how)
    evaluations = result.evaluations + preview.evaluations + config.heldout * len(policy.solver)
    trained = json.loads((RESULTS / f"robots_train_{config.policy}.json").read_text())
    outcome: dict[str, Any] = {
        "adapter": config.name,
        "parameters": lora.num_parameters(result.tuned),
        "calibration": result.calibration,
        "borders": result.calibration.borders,
        "preview": preview.rows,
        "evaluations": evaluations,
        "share_of_base_training": evaluations / trained["evaluations"],
        "seconds": time.perf_counter() - start,
    }
    console.print(
        {name: outcome[name] for name in ("borders", "preview", "evaluations", "share_of_base_training", "seconds")}
    )
    command = command_line("experiments.robots train-pcm", config, always=("policy",), never=("out", "ship", "data"))
    prior = None if policy.prior is None else fingerprint(policy.prior)
    about = {"prior": prior, "solver": "DDPM-100", "command": command, "device": device(), "versions": versions()}
    tables, rows = {"secant": result.calibration.table}, {"secant": preview.rows}
    place, results = (ADAPTERS, RESULTS) if config.ship else (folder, folder)
    path = place / f"{config.name}.safetensors"
    save_adapter(path, result.tuned, tables, policy, about, rows, storage=STORAGE)
    console.print(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB)")
    study = f"robots_pcm_{config.name}".replace("-", "_")
    plain = dataclasses.replace(config, data=None, out=None)
    write_result(study, outcome, config=plain, seed=config.seed, command=command, results=results)
    return outcome
