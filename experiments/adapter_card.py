"""An adapter's card, written by the command that trained it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CARD = """# {name}: PCM-LoRA of the {model} model for {solver}

Made by `{command}`; this card too. Do not edit it.

## Use
```python
import jax, jax.numpy as jnp
import pcm_jax as pcm

model = pcm.pretrained.load("{model}")
tuned = pcm.pretrained.load_adapter("{name}", model)
solver = {call}
noise = jax.random.normal(jax.random.key(0), (10, *model.sample_shape))
out = pcm.sample_picard(model.model_fn, model.params, noise, solver, cond=jnp.arange(10),
                        adapter=tuned.adapter, switch=tuned.switch)
```

## What it is
Low-rank factors of rank {rank} for every kernel ({parameters:,} parameters), trained so that the first round from noise
lands near the exact trajectory (Picard consistency, arXiv 2503.19731, with the switch in the loop), and the switch that
was measured for them, one for each slope of the scan. In rounds 1, 2, .. the fine-tuned model evaluates the rows from
these on, the base model all others and every later round: {borders}. The result is certified under the base model, so
it is the base model's sample.

With `max_rounds=k, preview=tuned.preview` a run ends after k rounds and shows the data prediction of one row, which is
closer to the exact sample than the last state. After 1, 2, .. rounds that is row (of {steps}, {steps} being the last
state): {previews}.

## Training
{settings}

{seconds:.0f} s on {device}; {evaluations:,.0f} evaluations of the network, {share:.1%} of the base model's training.

## Measured on {heldout} held-out noises
RMS error of the sample after the first round, and after 1, 2, 3 rounds of the base model behind it (secant):

| | round 1 | 2 | 3 | 4 |
|---|---|---|---|---|
{errors}
"""


def card(config: Any, outcome: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Markdown from the run's own numbers."""
    settings = outcome["recipe"] | {name: getattr(config, name) for name in ("learning_rate", "ema_decay", "seed")}
    family, steps = config.solver.rsplit("-", 1)
    function = {"DDIM": "ddim", "DDPM": "ddpm", "DPM-Solver++": "dpm_solver_pp"}[family]
    without, kept = outcome["calibration"]["secant"].error[0]
    rows = (("Picard + secant", without), ("with this adapter", kept))
    return _CARD.format(
        name=config.name,
        model=config.model,
        solver=config.solver,
        command=about["command"],
        call=f"pcm.solvers.{function}(model.schedule, {steps}, prediction=model.prediction, clip=model.clip)",
        rank=config.rank,
        parameters=outcome["parameters"],
        borders="; ".join(f"{slope} {', '.join(map(str, at)) or 'none'}" for slope, at in outcome["borders"].items()),
        steps=steps,
        previews="; ".join(f"{slope} {', '.join(map(str, one.rows))}" for slope, one in outcome["previews"].items()),
        settings=", ".join(f"{name} {value}" for name, value in settings.items()) + ".",
        seconds=outcome["seconds"],
        device=about["device"],
        evaluations=outcome["evaluations"],
        share=outcome["share_of_base_training"],
        heldout=outcome["heldout"],
        errors="\n".join(f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |" for name, values in rows),
    )
