"""Which rows a decision from the prior is shown from when it ends after 1, 2, .. rounds.

    python -m experiments.robots previews --policy pusht
    python -m experiments.robots previews --policy metaworld     # after `collect`

The data prediction of one row is nearer to the exact chunk than the last state is. Rows are chosen by the RMS error on
observations of the episodes that the policy was trained on, and written into its configuration, from which
`load_policy(..).preview` comes. Under a minute on 2 CPU cores.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.common.figures import RESULTS, command_line, write_result
from experiments.robots.train import Name, observations
from pcm_jax.pretrained.policies import POLICIES, load_policy, load_policy_config, save_policy_config
from pcm_jax.training import Base, Drawn, measure_preview, solve_batch


@dataclasses.dataclass(frozen=True)
class Previews:
    """Choose the rows of a shipped policy. noises: chunks that they are chosen on. rounds: each gets a row."""

    policy: Name = "pusht"
    data: Path | None = None
    noises: int = 256
    rounds: int = 8
    held_out: int = 50
    seed: int = 3


def run_previews(config: Previews, console: Console, directory: Path = POLICIES, results: Path = RESULTS) -> Any:
    """Measure, and write the configuration and the JSON."""
    policy = load_policy(config.policy, directory)
    if policy.prior is None:
        raise ValueError(f"{config.policy} has no prior; fit one with: python -m experiments.models.priors fit")
    seen = observations(policy, config.policy, config.data, config.held_out)
    base, shape = Base(policy.params, policy.solver, policy.prior), (policy.horizon, policy.action.size)
    batch = solve_batch(policy.model_fn, base, shape, config.noises, Drawn(seen), jax.random.key(config.seed))
    found = measure_preview(policy.model_fn, base, batch, rounds=config.rounds)
    save_policy_config(
        dataclasses.replace(load_policy_config(config.policy, directory), preview=tuple(found.rows)), directory
    )
    outcome = {
        "rows": found.rows,
        "error": np.min(found.error, axis=1),
        "error_last_state": found.error[:, -1],
        "evaluations": found.evaluations,
    }
    console.print(outcome)
    command = command_line("experiments.robots previews", config, always=("policy",), never=("data",))
    plain = dataclasses.replace(config, data=None)
    study = f"robots_previews_{config.policy}"
    write_result(study, outcome, config=plain, seed=config.seed, command=command, results=results)
    return outcome
