"""The class-conditional 28x28 Fashion-MNIST model that ships with the package.

    python -m experiments.models.fashion train     # trains, then rewrites the weights, their card and the results
    python -m experiments.models.fashion train --steps 200 --out /tmp/look   # the shipped files stay as they are
    python -m experiments.models.fashion sample    # a PNG grid from the shipped weights

A small UNet on 2x2 patches, linear VP schedule, epsilon prediction, label dropout for guidance. The images come from
Debian's package dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or from TFDS by name.
Expected: held-out loss 0.0362, 82 % of DDIM-50 samples read as their label (84 % of held-out real images are). Five
minutes on an H200; 5.9 MB of weights. On two CPU cores a smaller model takes 45 minutes and ends at 0.0479:
python -m experiments.models.fashion train --steps 6000 --batch-size 64 --channels 32 64 --blocks 1
A run that was stopped goes on where it was when the same command is given again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from experiments.common.figures import RESULTS
from experiments.models.base_card import About
from experiments.models.base_model import SampleBase, TrainBase, run_sample, run_train

ABOUT = About(
    name="fashion",
    command="python -m experiments.models.fashion train",
    title="class-conditional 28x28 Fashion-MNIST",
    data="Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf, Zalando Research, arXiv 1708.07747, MIT licence): 60,000 "
    "training images;\nthe 10,000 test images are held out.",
)


@dataclasses.dataclass(frozen=True)
class Train(TrainBase):
    __doc__ = TrainBase.__doc__

    out: Path = Path("experiments/out/fashion")
    steps: int = 15_000
    batch_size: int = 256
    judged: int = 300
    channels: tuple[int, ...] = (64, 128)
    patch: int = 2
    blocks: int = 2


@dataclasses.dataclass(frozen=True)
class Sample(SampleBase):
    __doc__ = SampleBase.__doc__

    out: Path = RESULTS / "fashion_samples.png"
    guidance: float = 2.0


Command = Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Sample, tyro.conf.subcommand("sample")]


def main(config: Train | Sample) -> None:
    """Run one of the two."""
    if isinstance(config, Train):
        network = {"name": "unet2d", "channels": list(config.channels), "patch": config.patch, "blocks": config.blocks}
        run_train(config, "fashion_mnist", network, ABOUT, Console())
    else:
        run_sample(config, "fashion", Console())


if __name__ == "__main__":
    main(tyro.cli(Command))
