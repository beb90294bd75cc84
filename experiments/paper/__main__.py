"""The tables of the Picard Consistency Model's paper, with a model of yours.

    python -m experiments.paper ldm-celeba                                        # on the latent model that ships
    python -m experiments.paper ldm-celeba --model ldm-celebahq-256 --data celeba-hq/ --inception pt_inception.pth
    python -m experiments.paper stable-diffusion --model stable-diffusion-v1-5 --prompts prompts.txt
    python -m experiments.paper robots --task pusht

Each prints the rows that the paper published and those measured here, for sequential sampling, Picard, PCM (a second
network, two calls a round) and PCM-LoRA, and both with the default slope too. A PCM-LoRA is trained where none is given
(--adapter FILE), by the paper's recipe: 500 trajectories, 50 epochs, Adam at 1e-4, EMA 0.999. The switch is measured
instead of tuned. Everything is kept in --out, and a run that was stopped goes on.

Real images are a dataset's name or a folder of image files. The distance is FD on EfficientNet-Lite0 features, and FID
where --inception names Inception's weights. Latencies are of one sample, over the sequential sampler's in the same run.

On a TPU pod or several GPU hosts, on every host: python -m experiments.paper ldm-celeba --distributed ..
Batches are dealt out to the hosts, and the first one writes.
"""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console

from experiments.paper import hosts
from experiments.paper.config import Images, LDMCelebA, StableDiffusion
from experiments.paper.robots import Robots, run_robots

Command = (
    Annotated[LDMCelebA, tyro.conf.subcommand("ldm-celeba")]
    | Annotated[StableDiffusion, tyro.conf.subcommand("stable-diffusion")]
    | Annotated[Robots, tyro.conf.subcommand("robots")]
)


def main(config: Images | Robots) -> None:
    """Run one of them."""
    if isinstance(config, Robots):
        run_robots(config, Console())
        return
    # Before the first use of a device, which the modules below do not make when they are imported.
    hosts.begin(config.distributed)
    from experiments.paper.images import run
    from experiments.paper.report import show

    console = Console(quiet=not hosts.writer())
    outcome = run(config, console)
    if hosts.writer():
        show("stable-diffusion" if isinstance(config, StableDiffusion) else "ldm-celeba", config, outcome, console)


if __name__ == "__main__":
    main(tyro.cli(Command))
