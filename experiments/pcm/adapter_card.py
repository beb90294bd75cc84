"""An adapter's card, written by the command that trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.pcm.subject import TRAINED

_CARD = """# {name}: PCM-LoRA of the {model} model for {solver}

Made by `{command}`; this card too. Do not edit it.

## Use
```python
import jax, jax.numpy as jnp
import pcm_jax as pcm

{load}
noise = jax.random.normal(jax.random.key(0), (10, *model.sample_shape))
out = pcm.sample_picard(
    model.model_fn, model.params, noise, solver, cond=jnp.arange(10), adapter=tuned.adapter, switch=tuned.switch
){decode}
```

## What it is
Low-rank factors of rank {rank} for every kernel ({parameters:,} parameters), trained so that the first round from noise
lands near the exact trajectory (Picard consistency, arXiv 2503.19731, with the switch in the loop), and the switch that
was measured for them, one for each slope of the scan. In rounds 1, 2, .. the fine-tuned model evaluates the rows from
these on, the base model all others and every later round: {borders}. The result is certified under the base model, so
it is the base model's sample.

With `max_rounds=k, preview=tuned.preview` a run ends after k rounds and shows the data prediction of one row, which is
a better sample than the last state. After 1, 2, .. rounds that is row (of {steps}, {steps} being the last state):
{previews}. {chosen}

## Training
{settings}

{seconds:.0f} s on {device}; {evaluations:,.0f} evaluations of the network, {share:.1%} of the base model's training.

## Measured on {heldout} held-out noises
RMS error of the sample after the first round, and after 1, 2, 3 rounds of the base model behind it (secant):

| | round 1 | 2 | 3 | 4 |
|---|---|---|---|---|
{errors}
"""

_PIXELS = """model = pcm.pretrained.load("{model}")
tuned = pcm.pretrained.load_adapter("{name}", model)
solver = pcm.solvers.{function}(model.schedule, {steps}, prediction=model.prediction, clip=model.clip)"""
_LATENTS = """pipe = pcm.pretrained.diffusers.load_pipeline(pcm.pretrained.FOLDERS / "{model}")
model, solver = pipe.denoiser, pipe.scheduler.solver({steps})
tuned = pcm.pretrained.load_adapter("{name}", model)"""
_DECODED = """
images = pipe.autoencoder.decode(out.sample)"""
"""What the card's example begins with, and ends with where samples are latents."""


def card(result: Mapping[str, Any], rows: Mapping[str, Sequence[int]] | None = None, chosen_by: str = "") -> str:
    """Markdown from the run's own numbers.

    Args:
        result: the JSON that the training command wrote.
        rows: of the previews, where another command, `chosen_by`, has chosen them since.
    """
    config = result["config"]
    settings = result["recipe"] | {name: config[name] for name in ("learning_rate", "ema_decay", "seed")}
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    family, steps = config["solver"].rsplit("-", 1)
    function = {"DDIM": "ddim", "DDPM": "ddpm", "DPM-Solver++": "dpm_solver_pp"}[family]
    in_folder = config["model"] in TRAINED
    example = (_LATENTS if in_folder else _PIXELS).format(
        model=config["model"], name=result["adapter"], function=function, steps=steps
    )
    without, kept = result["calibration"]["secant"]["error"][0]
    lines = (("Picard + secant", without), ("with this adapter", kept))
    rows = {slope: one["rows"] for slope, one in result["previews"].items()} if rows is None else rows
    chosen = "They are the rows nearest to the exact sample."
    return _CARD.format(
        name=result["adapter"],
        model=config["model"],
        solver=config["solver"],
        command=result["command"],
        load=example,
        decode=_DECODED if in_folder else "",
        rank=config["rank"],
        parameters=result["parameters"],
        borders="; ".join(f"{slope} {', '.join(map(str, at)) or 'none'}" for slope, at in result["borders"].items()),
        steps=steps,
        previews="; ".join(f"{slope} {', '.join(map(str, rows[slope]))}" for slope in sorted(rows, reverse=True)),
        chosen=f"Those of the secant were chosen by KID: `{chosen_by}`." if chosen_by else chosen,
        settings=", ".join(f"{name} {value}" for name, value in settings.items()) + ".",
        seconds=result["seconds"],
        device=result["device"],
        evaluations=result["evaluations"],
        share=result["share_of_base_training"],
        heldout=result["heldout"],
        errors="\n".join(f"| {name} | {' | '.join(f'{value:.4f}' for value in values)} |" for name, values in lines),
    )
