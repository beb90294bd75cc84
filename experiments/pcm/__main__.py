"""Picard consistency fine-tuning of the shipped models: LoRA adapters, and what they gain over Picard.

    python -m experiments.pcm train --model digits --solver DDIM-50    # trains and ships digits-ddim50
    python -m experiments.pcm study --model digits                     # error per round, certified rounds
    python -m experiments.pcm previews --model emoji32 --solver DDIM-100   # early samples by their looks, not by RMS
    python -m experiments.pcm ablation                                 # what each part of the recipe is worth

`make pcm ARGS="train --model digits"` is the same. Training a digits adapter takes two minutes on 2 CPU cores, a
Fashion-MNIST adapter four. A run or a study that was stopped goes on where it was when the same command is given again;
delete its folder in experiments/out to start anew. On a GPU machine: make pcm PYTHON=python3 VENV= ARGS="..".
"""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console

from experiments.pcm.ablation import Ablation, run_ablation
from experiments.pcm.previews import Previews, run_previews
from experiments.pcm.study import Study, run_study
from experiments.pcm.train import Train, run_train

Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Previews, tyro.conf.subcommand("previews")]
    | Annotated[Study, tyro.conf.subcommand("study")]
    | Annotated[Ablation, tyro.conf.subcommand("ablation")]
)


def main(config: Train | Previews | Study | Ablation) -> None:
    """Run one of them."""
    console = Console()
    if isinstance(config, Train):
        run_train(config, console)
    elif isinstance(config, Previews):
        run_previews(config, console)
    elif isinstance(config, Study):
        run_study(config, console)
    else:
        run_ablation(config, console)


if __name__ == "__main__":
    main(tyro.cli(Command))
