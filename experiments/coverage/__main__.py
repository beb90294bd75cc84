"""Does the tolerance hold? True errors of certified samples beside the tolerance and the bound.

    python -m experiments.coverage random                     # 10,000 random analytic samples, the unkind kind
    python -m experiments.coverage shipped                    # the shipped models, solvers, windows and tolerances
    python -m experiments.coverage shipped --models fashion emoji32 --noises 256 --batch 256      # on a GPU

Both go on where they were stopped, cell by cell, in experiments/out/coverage; delete it to start anew. On 2 CPU cores
`random` takes ten minutes and `shipped` about forty with its own numbers of noises.
"""

from __future__ import annotations

from typing import Annotated

import tyro
from rich.console import Console

from experiments.coverage.random import Random, run_random
from experiments.coverage.shipped import Shipped, run_shipped

Command = Annotated[Random, tyro.conf.subcommand("random")] | Annotated[Shipped, tyro.conf.subcommand("shipped")]


def main(config: Random | Shipped) -> None:
    """Run one of them."""
    console = Console()
    if isinstance(config, Random):
        run_random(config, console)
    else:
        run_shipped(config, console)


if __name__ == "__main__":
    main(tyro.cli(Command))
