"""A page with samples after each round: experiments/results/gallery.html.

    python -m experiments.gallery draw --model emoji32     # once for each model: digits, fashion, emoji32, latent
    python -m experiments.gallery episode --task pusht     # once for Push-T, and once for a task of Meta-World:
    MUJOCO_GL=osmesa python -m experiments.gallery episode --task door-open --number 0 --decision 1
    python -m experiments.gallery page                     # from the results that are there

The page needs no other file and no network: open it in any browser.
"""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console

from experiments.gallery.episodes import Episode, run_episode
from experiments.gallery.page import Page, run_page
from experiments.gallery.sprites import Draw, run_draw

Command = (
    Annotated[Draw, tyro.conf.subcommand("draw")]
    | Annotated[Episode, tyro.conf.subcommand("episode")]
    | Annotated[Page, tyro.conf.subcommand("page")]
)


def main(config: Draw | Episode | Page) -> None:
    """Run one of them."""
    console = Console()
    if isinstance(config, Draw):
        run_draw(config, console)
    elif isinstance(config, Episode):
        run_episode(config, console)
    else:
        run_page(config, console)


if __name__ == "__main__":
    main(tyro.cli(Command))
