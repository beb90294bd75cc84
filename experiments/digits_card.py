"""The model card, written by the command that trained the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pcm_jax.pretrained import ModelConfig

_CARD = """# {name}: class-conditional 8x8 handwritten digits

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
{network} ({parameters:,} parameters, float32), schedule {schedule}, {prediction} prediction. Images are in [-1, 1]
(standard deviation {data_std:.3f}); the weights are the moving average (EMA).

## Data
scikit-learn's `load_digits`, the test part of UCI "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak,
CC BY 4.0, https://archive.ics.uci.edu/dataset/80): 1797 images. Every sixth image is held out.

## Training
{settings}

{seconds:.0f} s on {device}; {versions}.

## Measured
| | |
|---|---|
| training loss (mean of the last 10 log lines, labels dropped at times) | {train_loss:.4f} |
| held-out loss (EMA) | {heldout_loss:.4f} |
| {sampler}: samples read as their label by a classifier of real digits | {accuracy:.1%} of {samples} |
| the same with guidance 2 | {accuracy_guided:.1%} |
| held-out real digits read as their label by that classifier | {accuracy_real:.1%} |
| distance to the nearest training image, over that of held-out real digits | {nearest:.2f} |
| spread within a class, over that of held-out real digits | {spread:.2f} |

## Limits
A demonstration model: small images, few of them. It shows how samplers behave, not how good diffusion can be.
"""


def card(model: ModelConfig, config: Mapping[str, Any], outcome: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """Markdown from the run's own numbers."""
    network, schedule = dict(model.network), dict(model.schedule)
    settings = {name: value for name, value in config.items() if name not in ("out", "resume", "ship")}
    return _CARD.format(
        name=model.name,
        command=about["command"],
        num_classes=model.num_classes,
        network=_call(network),
        parameters=model.parameters,
        schedule=_call(schedule),
        prediction=model.prediction,
        data_std=model.data_std,
        settings=", ".join(f"{name} {value}" for name, value in settings.items()) + ".",
        seconds=outcome["seconds"],
        device=about["device"],
        versions=", ".join(f"{name} {value}" for name, value in about["versions"].items()),
        train_loss=outcome["train_loss"],
        heldout_loss=outcome["heldout_loss"],
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
