"""Robot control by a diffusion policy, sampled sequentially, with Picard and with PCM.

    python -m experiments.robots eval --task push --methods DDPM-100 PCM    # with the shipped policy
    python -m experiments.robots collect                                    # demonstrations of Meta-World's experts
    python -m experiments.robots train --policy metaworld
    python -m experiments.robots train-pcm --policy metaworld
    python -m experiments.robots previews --policy metaworld                # rows of decisions that end early
    python -m experiments.robots latency

The simulators come with pip install 'pcm-jax[robots]'. Every command that was stopped goes on where it was.
"""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console

from experiments.robots.collect import Collect, run_collect
from experiments.robots.evaluate import Evaluate
from experiments.robots.latency import Latency, run_latency
from experiments.robots.previews import Previews, run_previews
from experiments.robots.report import run_and_report
from experiments.robots.train import TrainPolicy, run_train
from experiments.robots.train_pcm import TrainPCM, run_train_pcm

Command = (
    Annotated[Collect, tyro.conf.subcommand("collect")]
    | Annotated[TrainPolicy, tyro.conf.subcommand("train")]
    | Annotated[TrainPCM, tyro.conf.subcommand("train-pcm")]
    | Annotated[Evaluate, tyro.conf.subcommand("eval")]
    | Annotated[Previews, tyro.conf.subcommand("previews")]
    | Annotated[Latency, tyro.conf.subcommand("latency")]
)


def main(config: Collect | TrainPolicy | TrainPCM | Evaluate | Previews | Latency) -> None:
    """Run one of them."""
    console = Console()
    console.width = max(console.width, 120)
    if isinstance(config, Collect):
        run_collect(config, console)
    elif isinstance(config, TrainPolicy):
        run_train(config, console)
    elif isinstance(config, TrainPCM):
        run_train_pcm(config, console)
    elif isinstance(config, Evaluate):
        run_and_report(config, console)
    elif isinstance(config, Previews):
        run_previews(config, console)
    else:
        run_latency(config, console)


if __name__ == "__main__":
    main(tyro.cli(Command))
