"""Training of the policies by Diffusion Policy's recipe, on people's demonstrations of Push-T or Meta-World's experts.

python -m experiments.robots train --policy pusht --data path/to/pusht_cchi_v7_replay.zarr
python -m experiments.robots train --policy metaworld          # after `collect`
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.common.figures import ROOT, STORAGE, command_line, device, versions, write_result
from experiments.robots import collect
from experiments.robots.environments import METAWORLD, pusht_features
from pcm_jax.data import batch_iterator
from pcm_jax.data.robots import Demonstrations, Episode, Normalizer, chunks, load_pusht
from pcm_jax.policy import Policy
from pcm_jax.pretrained.policies import POLICIES, PolicyConfig, build_policy, export_policy
from pcm_jax.schedules import cosine_vp
from pcm_jax.training import OptimizerConfig, TrainConfig, denoising_loss, read_metrics, train

Name = Literal["pusht", "metaworld"]
PUSHT = ROOT.parent / "shared" / "data" / "pusht" / "pusht_cchi_v7_replay.zarr"
NETWORKS: dict[str, dict[str, Any]] = {
    "pusht": {"name": "mlp", "width": 288, "depth": 4, "observations": True, "time_scale": 10.0},
    "metaworld": {"name": "mlp", "width": 288, "depth": 4, "observations": True, "time_scale": 10.0},
}
STEPS = {"pusht": 20_000, "metaworld": 20_000}


@dataclasses.dataclass(frozen=True)
class TrainPolicy:
    """Train a policy, measure its loss on held-out episodes, and ship it.

    data: zarr of Push-T, or the folder that `collect` filled. network: the small MLP that two CPU cores train in
    minutes, or Diffusion Policy's UNet of three levels for a GPU. held_out: every n-th episode is not trained on. ship:
    write the package's files.
    """

    policy: Name = "pusht"
    data: Path | None = None
    network: Literal["mlp", "unet1d"] = "mlp"
    channels: tuple[int, ...] = (256, 512, 1024)
    steps: int | None = None
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-6
    ema_decay: float = 0.999
    num_steps: int = 100
    held_out: int = 50
    checkpoint_every: int = 2000
    out: Path | None = None
    ship: bool = True
    seed: int = 0


def demonstrations(policy: Name, data: Path | None) -> tuple[Demonstrations, tuple[str, ...]]:
    """(episodes with the observations that the policy reads, its tasks)."""
    if policy == "metaworld":
        return collect.load(METAWORLD, data or collect.FOLDER), METAWORLD
    raw = load_pusht(data or PUSHT)
    lifted = tuple(Episode(pusht_features(one.observation), one.action, one.reward) for one in raw.episodes)
    return Demonstrations(lifted, raw.name), ("pusht",)


def observations(
    policy: Policy,
    name: Name,
    data: Path | None,
    held_out: int = 50,
    *,
    unseen: bool = False,
    task: str | None = None,
) -> np.ndarray:
    """Normalised histories `[N, obs_horizon, O]` of the episodes that the policy was trained on, or of the others.

    held_out: as `train` had it. task: of Meta-World, whose episodes alone are wanted.

    Raises:
        ValueError: a task that the policy does not know.
    """
    every, tasks = demonstrations(name, data)
    episodes = [e for index, e in enumerate(every.episodes) if (index % held_out == held_out - 1) == unseen]
    if task is not None:
        if name != "metaworld" or task not in tasks:
            raise ValueError(f"--task takes one of {', '.join(tasks)} with --policy metaworld, got {task!r}")
        code = every.episodes[0].observation.shape[1] - len(tasks) + tasks.index(task)
        episodes = [episode for episode in episodes if episode.observation[0, code] == 1]
    kept = Demonstrations(tuple(episodes), every.name)
    sizes = {name: getattr(policy, name) for name in ("obs_horizon", "horizon", "action_horizon")}
    source = chunks(kept, policy.observation, policy.action, **sizes)
    return np.asarray(source.gather(np.arange(len(source)))["cond"])


def run_train(config: TrainPolicy, console: Console) -> dict[str, Any]:
    """Train and write; goes on from the last checkpoint in `out`."""
    every, tasks = demonstrations(config.policy, config.data)
    held = [index % config.held_out == config.held_out - 1 for index in range(len(every.episodes))]
    kept = Demonstrations(tuple(e for e, out in zip(every.episodes, held, strict=True) if not out), every.name)
    rest = Demonstrations(tuple(e for e, out in zip(every.episodes, held, strict=True) if out), every.name)
    observation = Normalizer.fit(np.concatenate([episode.observation for episode in kept.episodes]))
    action = Normalizer.fit(np.concatenate([episode.action for episode in kept.episodes]))
    network = NETWORKS[config.policy]
    if config.network == "unet1d":
        network = {"name": "unet1d", "channels": config.channels}
    about = PolicyConfig(
        name=config.policy,
        network=network,
        num_steps=config.num_steps,
        observation_size=every.episodes[0].observation.shape[1],
        action_size=every.episodes[0].action.shape[1],
        obs_horizon=2,
        horizon=16,
        action_horizon=8,
        tasks=tasks,
    )
    model_fn, shapes = about.build()
    about = dataclasses.replace(about, parameters=sum(leaf.size for leaf in jax.tree.leaves(shapes)))
    schedule = cosine_vp(config.num_steps)
    loss = functools.partial(_loss, model_fn, schedule)
    sizes = {"obs_horizon": about.obs_horizon, "horizon": about.horizon, "action_horizon": about.action_horizon}
    source = chunks(kept, observation, action, **sizes)
    unseen = chunks(rest, observation, action, **sizes)
    check = unseen.gather(np.arange(0, len(unseen), 3))
    measure = jax.jit(lambda state: {"heldout": loss(state.ema, check, jax.random.key(0))[0]})
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    seen = jnp.zeros((1, about.obs_horizon, about.observation_size))
    params = model_fn.init(init_key, jnp.zeros((1, *about.sample_shape)), jnp.zeros(1), seen)
    steps = STEPS[config.policy] if config.steps is None else config.steps
    folder = config.out or Path("experiments/out/robots") / config.policy
    length = TrainConfig(
        num_steps=steps,
        optimizer=OptimizerConfig(
            config.learning_rate, weight_decay=config.weight_decay, warmup_steps=500, ema_decay=config.ema_decay
        ),
        directory=str(folder),
        evaluate_every=1000,
        checkpoint_every=config.checkpoint_every,
    )
    batches = batch_iterator(source, config.batch_size, config.seed)
    state = train(length, loss, params, batches, train_key, evaluate=measure)
    lines = read_metrics(folder / "metrics.jsonl")
    outcome = {
        "parameters": about.parameters,
        "steps": steps,
        "episodes": len(kept.episodes),
        "chunks": len(source),
        "heldout_loss": [line["heldout"] for line in lines if "heldout" in line][-1],
        "train_loss": float(np.mean([line["loss"] for line in lines if "loss" in line][-10:])),
        "seconds": lines[-1]["seconds"],
        "evaluations": 3.0 * steps * config.batch_size,
    }
    console.print(outcome)
    if config.ship:
        command = command_line("experiments.robots train", config, always=("policy",), never=("out", "ship", "data"))
        policy = build_policy(about, state.ema, observation, action)
        text = _card(about, outcome, every.name, command)
        path = export_policy(policy, about, text, POLICIES, storage=STORAGE)
        write_result(
            f"robots_train_{config.policy}",
            outcome,
            config=dataclasses.replace(config, data=None),
            seed=config.seed,
            command=command,
        )
        console.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
    return outcome


def _loss(model_fn: Any, schedule: Any, params: Any, batch: Any, key: Any) -> Any:
    return denoising_loss(params, model_fn, schedule, batch, key)


def _card(config: PolicyConfig, outcome: dict[str, Any], data: str, command: str) -> str:
    tasks = ", ".join(config.tasks)
    network = dict(config.network)
    sizes = f"{config.obs_horizon} observations of {config.observation_size} numbers in"
    sizes += f", {config.horizon} actions of {config.action_size} out, of which {config.action_horizon} are carried out"
    return f"""# {config.name}

A diffusion policy (arXiv 2303.04137) for {tasks}:
{sizes}.

- Network: {network.pop("name")} {network}, {outcome["parameters"]:,} parameters.
- Data: {data}, {outcome["episodes"]} episodes, {outcome["chunks"]} chunks.
- Training: {outcome["steps"]} steps in {outcome["seconds"] / 60:.0f} minutes on {device()}; denoising loss
  {outcome["train_loss"]:.4f}, on held-out episodes {outcome["heldout_loss"]:.4f}.
- Sampler: DDPM-{config.num_steps}, squared-cosine schedule, epsilon prediction, predicted actions clipped to [-1, 1].
- Made by `{command}` with {", ".join(f"{name} {version}" for name, version in versions().items())}.
"""
