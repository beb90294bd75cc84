"""One of several hosts: python -m tests.experiments.paper.one_host MODEL DATA OUT, addresses in the environment."""

import json
import sys
from pathlib import Path

import jax
from rich.console import Console

from experiments.campaigns.latent import few, tiny
from experiments.paper import hosts, images
from experiments.paper.config import LDMCelebA


def main(model, data, out):
    """The tiny table, and what this host found."""
    hosts.begin(True)
    config = LDMCelebA(model=Path(model), data=data, out=Path(out), full=False, **tiny())
    outcome = images.run(config, Console(quiet=True), few)
    found = {
        "fd": outcome["fd"],
        "hosts": jax.process_count(),
        "writer": hosts.writer(),
        "grid": sorted(outcome["grid"]),
    }
    (Path(out) / f"found_{jax.process_index()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
