"""A latent diffusion model of emoji, in the folder layout of diffusers' LDM pipeline.

    python -m experiments.models.latent autoencoder     # pictures of 32x32 to latents of 8x8
    python -m experiments.models.latent denoiser        # a class-conditional UNet2DModel of those latents
    python -m experiments.models.latent sample          # a PNG grid

The folder can be read by `diffusers` too, and `python -m experiments.paper ldm-celeba --model FOLDER` runs the paper's
table on it. A run that was stopped goes on where it was when the same command is given again. Made for one CPU core:
15 minutes and 30 minutes. On a GPU machine take the larger pictures, deeper levels and more steps:

    python -m experiments.models.latent autoencoder --data emoji64 --channels 64 128 256 --crop 64 \
        --steps 20000 --folder DIR
    python -m experiments.models.latent denoiser --data emoji64 --channels 128 256 --steps 60000 --folder DIR
"""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console

from experiments.models.latent.autoencoder import TrainAutoencoder, run_autoencoder
from experiments.models.latent.denoiser import SampleLatent, TrainDenoiser, run_denoiser, run_sample

Command = (
    Annotated[TrainAutoencoder, tyro.conf.subcommand("autoencoder")]
    | Annotated[TrainDenoiser, tyro.conf.subcommand("denoiser")]
    | Annotated[SampleLatent, tyro.conf.subcommand("sample")]
)


def main(config: TrainAutoencoder | TrainDenoiser | SampleLatent) -> None:
    """Run one of them."""
    console = Console()
    if isinstance(config, TrainAutoencoder):
        run_autoencoder(config, console)
    elif isinstance(config, TrainDenoiser):
        run_denoiser(config, console)
    else:
        run_sample(config, console)


if __name__ == "__main__":
    main(tyro.cli(Command))
