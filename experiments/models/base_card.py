"""The model card, written by the command that trained the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pcm_jax.pretrained import ModelConfig


@dataclasses.dataclass(frozen=True)
class About:
    """What no run can measure: the model's name, the command that makes it, what it draws, and whose data that is."""

    name: str
    command: str
    title: str
    data: str


_CARD = """# {name}: {title}

Made by `{command}`; this card too. Do not edit it.

## Use
```python
import jax, jax.numpy as jnp
import pcm_jax as pcm

model = pcm.pretrained.load("{name}")
solver = pcm.solvers.ddim(model.schedule, 50, prediction=model.prediction, clip=model.clip)
noise = jax.random.normal(jax.random.key(0), (10, *model.sample_shape))
out = pcm.sample_picard(model.model_fn, model.params, noise, solver, cond=jnp.arange(10))
```
Labels are 0..9; {num_classes} is the null label: `pcm.guidance.classifier_free(model.model_fn, 2.0, {num_classes})`.

## Model
{network} ({parameters:,} parameters, float32 stored in bfloat16), schedule {schedule}, {prediction} prediction.
Images are in [-1, 1] (standard deviation {data_std:.3f}); the weights are the moving average (EMA).

## Data
{data}

## Training
{settings}

{seconds:.0f} s on {device}; {versions}.{note}

## Measured
| | |
|---|---|
{losses}
| {sampler}: samples read as their label by a classifier of real images | {accuracy:.1%} of {samples} |
| the same with guidance 2 | {accuracy_guided:.1%} |
| held-out real images read as their label by that classifier | {accuracy_real:.1%} |
| distance to the nearest training image, over that of held-out real images | {nearest:.2f} |
| spread within a class, over that of held-out real images | {spread:.2f} |

## Limits
A demonstration model: small images, few of them. It shows how samplers behave, not how good diffusion can be.
"""


def card(
    model: ModelConfig,
    config: Mapping[str, Any],
    outcome: Mapping[str, Any],
    about: About,
    made: Mapping[str, Any],
) -> str:
    """Markdown from the run's own numbers.

    Args:
        model: what `load` rebuilds.
        config: the run's.
        outcome: what it measured. "note" says what else a reader must know of the run; "before" is {"parameters",
            "heldout_loss"} of the model that this one replaced. Both may be missing, and so may "train_loss".
        about: the model's name, command and data.
        made: device and versions of the training.
    """
    network, schedule = dict(model.network), dict(model.schedule)
    settings = {name: value for name, value in config.items() if name not in ("out", "resume", "ship")}
    losses = {"held-out loss (EMA)": outcome["heldout_loss"]}
    if "train_loss" in outcome:
        losses = {
            "training loss (mean of the last 10 log lines, labels dropped at times)": outcome["train_loss"]
        } | losses
    if before := outcome.get("before"):
        losses[f"the same of the model that shipped before, {before['parameters']:,} parameters"] = before[
            "heldout_loss"
        ]
    return _CARD.format(
        name=model.name,
        command=about.command,
        title=about.title,
        data=about.data,
        num_classes=model.num_classes,
        network=_call(network),
        parameters=model.parameters,
        schedule=_call(schedule),
        prediction=model.prediction,
        data_std=model.data_std,
        settings=", ".join(f"{name} {value}" for name, value in settings.items()) + ".",
        seconds=outcome["seconds"],
        device=made["device"],
        versions=", ".join(f"{name} {value}" for name, value in made["versions"].items()),
        note=f"\n{outcome['note']}" if "note" in outcome else "",
        losses="\n".join(f"| {name} | {loss:.4f} |" for name, loss in losses.items()),
        sampler=outcome["sampler"],
        accuracy=outcome["quality"]["accuracy"],
        samples=outcome["quality"]["samples"],
        accuracy_guided=outcome["quality_guidance_2"]["accuracy"],
        accuracy_real=outcome["quality"]["accuracy_real"],
        nearest=outcome["quality"]["nearest"],
        spread=outcome["quality"]["spread"],
    )


def _call(options: dict[str, Any]) -> str:
    name = options.pop("name")
    return f"{name}({', '.join(f'{key}={value}' for key, value in options.items())})"
