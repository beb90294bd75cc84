"""The class-conditional 32x32 colour model that ships with the package: emoji in ten categories.

    python -m experiments.emoji train                 # trains, then rewrites the weights, their card and the results
    python -m experiments.emoji train --steps 200 --out /tmp/look     # the shipped files stay as they are
    python -m experiments.emoji sample --guidance 3   # a PNG grid from the shipped weights

A UNet on 4x4 patches with self-attention at both levels, linear VP schedule, label dropout for guidance. It predicts
the data: emoji are flat colours on white, and at equal training that gives a lower FD than predicting the noise, or
velocity, or a larger network (try --prediction epsilon). The pictures come from three npm packages; without them the
first command says what to type. Made for two CPU cores and 80 minutes there. On a GPU machine, more of
everything (the data are found in $PCM_JAX_DATA):
python -m experiments.emoji train --channels 128 256 --patch 2 --steps 60000 --batch-size 128 --ship
A run that was stopped goes on where it was when the same command is given again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from experiments.base_card import About
from experiments.base_model import SampleBase, TrainBase, run_sample, run_train
from experiments.figures import RESULTS
from pcm_jax.types import PredictionType

ABOUT = About(
    name="emoji32",
    command="python -m experiments.emoji train",
    title="class-conditional 32x32 colour emoji",
    data="Emoji by Google (Apache-2.0), Twitter (CC-BY-4.0) and Microsoft (Fluent 3D, MIT) from the npm packages\n"
    "emoji-datasource-google, emoji-datasource-twitter and @lobehub/fluent-emoji-3d: 450 pictures of each class to\n"
    "train on, 50 held out. Classes: faces, hands, people, animals, food, travel, activities, objects, symbols, flags.",
)


@dataclasses.dataclass(frozen=True)
class Train(TrainBase):
    __doc__ = TrainBase.__doc__

    out: Path = Path("experiments/out/emoji32")
    steps: int = 12_000
    batch_size: int = 64
    judged: int = 300
    prediction: PredictionType = "data"
    channels: tuple[int, ...] = (96, 192)
    attention: tuple[int, ...] = (0, 1)
    patch: int = 4
    blocks: int = 1


@dataclasses.dataclass(frozen=True)
class Sample(SampleBase):
    __doc__ = SampleBase.__doc__

    out: Path = RESULTS / "emoji32_samples.png"


Command = Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Sample, tyro.conf.subcommand("sample")]


def main(config: Train | Sample) -> None:
    """Run one of the two."""
    if isinstance(config, Train):
        network = {
            "name": "unet2d",
            "channels": list(config.channels),
            "patch": config.patch,
            "blocks": config.blocks,
            "attention": list(config.attention),
        }
        run_train(config, "emoji32", network, ABOUT, Console())
    else:
        run_sample(config, "emoji32", Console())


if __name__ == "__main__":
    main(tyro.cli(Command))
