"""PCM and PCM-LoRA by the paper's recipe: every row of every round, X^k from plain Picard, states compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.common.study import SLOPES
from experiments.paper.config import Images
from experiments.paper.subject import Subject
from pcm_jax import lora
from pcm_jax.networks import factored
from pcm_jax.pretrained import ADAPTERS, available_adapters, load_adapter, save_adapter
from pcm_jax.sampling.preview import MeasuredRows
from pcm_jax.switching import FeatureSpace, ParameterSpace, Switch, calibrated, never
from pcm_jax.training import (
    Base,
    FinetuneConfig,
    OptimizerConfig,
    calibrate,
    collect,
    finetune,
    measure_preview,
    solve_batch,
)

SOLVED = 1
"""Seed of the trajectories, apart from the samples' and the held-out noises'."""


@dataclasses.dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned model, which rows are whose for each slope of the round, and which row previews show.

    preview: for the secant; None where a file has none.
    """

    adapter: ParameterSpace | FeatureSpace
    tables: dict[str, np.ndarray]
    preview: MeasuredRows | None = None

    def switch(self, slope: str) -> Switch:
        """The measured one."""
        return calibrated(self.tables[slope]) if len(self.tables[slope]) else never()


def tuned_models(config: Images, subject: Subject, folder: Path, console: Console) -> dict[str, Tuned]:
    """PCM-LoRA, from its file or trained, and PCM if asked for."""
    out: dict[str, Tuned] = {}
    if config.adapter is not None:
        shipped = str(config.adapter) in available_adapters()
        folder_of = ADAPTERS if shipped else config.adapter.parent
        loaded = load_adapter(config.adapter.stem, subject, folder_of)
        missing = [slope for slope in ("identity", "secant") if slope not in loaded.tables]
        if missing:
            raise ValueError(f"{config.adapter} has no table for the slope {missing[0]!r}; train it with this command")
        out["PCM-LoRA"] = Tuned(loaded.adapter, loaded.tables, loaded.preview)
    else:
        start: Any = lora.init(subject.params, config.rank, jax.random.key(config.seed))
        tuned = _train(config, subject, folder, "lora", start, console)
        about = {"solver": subject.solver.name, "epochs": config.epochs}
        adapted = tuned.adapter
        assert isinstance(adapted, ParameterSpace)
        assert tuned.preview is not None
        previews = {"secant": tuned.preview}
        path = save_adapter(folder / "adapter.safetensors", adapted.factors, tuned.tables, subject, about, previews)
        console.print(f"wrote {path}; give it with --adapter next time")
        out["PCM-LoRA"] = tuned
    if config.full:
        out["PCM"] = _train(config, subject, folder, "full", jax.tree.map(jnp.asarray, subject.params), console)
    return out


def _train(config: Images, subject: Subject, folder: Path, kind: str, start: Any, console: Console) -> Tuned:
    """One of them; its phases are kept in `folder`, its trajectories are shared."""
    rounds = min(config.rounds, config.steps)
    trajectories = collect(
        subject.model_fn,
        subject.params,
        subject.solver,
        subject.shape,
        folder / "trajectories",
        num_trajectories=config.trajectories,
        seed=config.seed + SOLVED,
        draw_cond=subject.draw_cond,
        rounds=rounds,
    )
    apply: Any = factored(subject.model_fn, start).model_fn if kind == "lora" else None
    console.print(f"{kind}: {config.training_steps} steps of {config.train_batch} trajectories")
    found = finetune(
        subject.model_fn,
        subject.params,
        subject.solver,
        subject.shape,
        start,
        FinetuneConfig(
            phases=(config.training_steps,),
            batch_size=config.train_batch,
            optimizer=OptimizerConfig(config.learning_rate, ema_decay=config.ema_decay),
            heldout=config.heldout,
            evaluate_every=max(100, config.training_steps // 5),
            evaluate_rounds=rounds,
            paper=True,
            paper_rounds=rounds,
            seed=config.seed,
        ),
        draw_cond=subject.draw_cond,
        factored=apply,
        linearization=SLOPES["identity"],
        stored=str(trajectories),
        directory=str(folder / kind),
        report=console.print,
    )
    base, key = Base(subject.params, subject.solver), jax.random.key(config.seed + 2)
    fresh = solve_batch(subject.model_fn, base, subject.shape, config.heldout, subject.draw_cond, key)
    secant = calibrate(subject.model_fn, base, found.adapter, fresh, linearization=SLOPES["secant"])
    tables = {"identity": found.calibration.table, "secant": secant.table}
    if kind == "full":
        return Tuned(found.adapter, tables)
    how: dict[str, Any] = {"adapter": found.adapter, "table": secant.table, "linearization": SLOPES["secant"]}
    return Tuned(found.adapter, tables, measure_preview(subject.model_fn, base, fresh, **how).rows)
