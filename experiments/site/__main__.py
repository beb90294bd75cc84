"""The documentation site beside its text in docs/ (`make docs` builds it).

python -m experiments.site rounds           # the numbers of the figure of rounds
python -m experiments.site check            # the built site: links, pictures, public names
python -m experiments.site check --record   # and set its figures
python -m experiments.site look             # screenshots and overflow, in a headless browser
"""

from __future__ import annotations

import tyro
from rich.console import Console

from experiments.site.check import Check, run_check
from experiments.site.look import Look, run_look
from experiments.site.rounds import Rounds, run_rounds


def main(config: Rounds | Check | Look) -> None:
    """Run the chosen one."""
    console = Console()
    if isinstance(config, Rounds):
        for name, method in run_rounds(config)["methods"].items():
            console.print(f"{name}: {len(method['rounds'])} rounds, {method['result']}")
    elif isinstance(config, Look):
        run_look(config, console)
    else:
        run_check(config, console)


if __name__ == "__main__":
    main(tyro.cli(Rounds | Check | Look))
