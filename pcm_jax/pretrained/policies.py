"""Trained diffusion policies in files: weights and normalisers, a configuration, a card."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax import checks, networks, solvers
from pcm_jax.data.robots import Normalizer
from pcm_jax.files import read_json, reads, write_text
from pcm_jax.policy import Policy
from pcm_jax.pretrained.priors import find_prior
from pcm_jax.pretrained.safetensors_io import load_params, rounded, save_params
from pcm_jax.pretrained.shipped import elsewhere
from pcm_jax.sampling.preview import MeasuredRows
from pcm_jax.schedules import cosine_vp

POLICIES = Path(__file__).parent / "policies"
"""The folder of the shipped policies of robots."""


@dataclasses.dataclass(frozen=True)
class PolicyConfig:
    """Enough to rebuild a policy: the network with its arguments, DDPM's steps, sizes and horizons.

    tasks: what it was trained on, in the order of a one-hot code if its observations carry one.
    preview: rows to show after 1, 2, .. rounds from the prior, `num_steps` being the last state; none were measured.
    """

    name: str
    network: dict[str, Any]
    num_steps: int
    observation_size: int
    action_size: int
    obs_horizon: int
    horizon: int
    action_horizon: int
    tasks: tuple[str, ...]
    parameters: int = 0
    preview: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tasks", tuple(self.tasks))
        if not isinstance(self.preview, (tuple, list)):
            raise ValueError(f"{self.name}: preview must hold rows, or nothing, got {checks.shown(self.preview)}")
        object.__setattr__(self, "preview", tuple(self.preview))
        sizes = ("num_steps", "observation_size", "action_size", "obs_horizon", "horizon", "action_horizon")
        for name in sizes:
            checks.whole(f"{self.name}: {name}", getattr(self, name))
        for row in self.preview:
            checks.whole(f"{self.name}: preview", row, 0, self.num_steps, "rows of the solver")

    @property
    def sample_shape(self) -> tuple[int, int]:
        """Of an action chunk."""
        return self.horizon, self.action_size

    def build(self) -> tuple[networks.LinenModel, Any]:
        """(model_fn, shapes and dtypes of its parameters)."""
        model_fn = networks.linen(networks.by_name(**self.network))
        x = jax.ShapeDtypeStruct((1, *self.sample_shape), jnp.float32)
        t = jax.ShapeDtypeStruct((1,), jnp.float32)
        seen = jax.ShapeDtypeStruct((1, self.obs_horizon, self.observation_size), jnp.float32)
        return model_fn, jax.eval_shape(model_fn.init, jax.eval_shape(lambda: jax.random.key(0)), x, t, seen)

    def build_solver(self) -> solvers.Solver:
        """DDPM on the squared-cosine schedule with all its training steps, the predicted data clipped to [-1, 1]."""
        return solvers.ddpm(cosine_vp(self.num_steps), self.num_steps, clip=1.0)


def available_policies(directory: str | Path = POLICIES) -> tuple[str, ...]:
    """Names that `load_policy` knows."""
    return tuple(sorted(path.stem for path in Path(directory).glob("*.safetensors")))


@reads("directory", "name")
def load_policy(name: str, directory: str | Path = POLICIES) -> Policy:
    """The policy called `name`; nothing is downloaded.

    Args:
        name: such as "pusht"; `available_policies()` lists them.
        directory: where `<name>.safetensors` and `<name>.json` lie, by default inside the package.

    Raises:
        ValueError: an unknown name, a foreign or truncated file, or weights that are not this network's.
    """
    config = load_policy_config(name, directory)
    _, shapes = config.build()
    like = {
        "params": shapes,
        "observation": Normalizer.shapes(config.observation_size),
        "action": Normalizer.shapes(config.action_size),
    }
    tree = load_params(Path(directory) / f"{name}.safetensors", like)
    policy = build_policy(config, tree["params"], tree["observation"], tree["action"])
    return dataclasses.replace(policy, prior=find_prior(name, Path(directory)))


def load_policy_config(name: str, directory: str | Path = POLICIES) -> PolicyConfig:
    """Its configuration alone."""
    path = Path(directory) / f"{name}.json"
    if not path.is_file():
        known = ", ".join(available_policies(directory)) or "none"
        raise ValueError(f"there is no policy {name!r} in {directory}; there are: {known}{elsewhere(Path(directory))}")
    content = read_json(path)
    try:
        return PolicyConfig(**content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is no policy configuration ({error}); write it with export_policy") from error


def build_policy(config: PolicyConfig, params: Any, observation: Normalizer, action: Normalizer) -> Policy:
    """The policy of a configuration, sampled sequentially until told otherwise."""
    model_fn, _ = config.build()
    solver = config.build_solver()
    return Policy(
        name=config.name,
        model_fn=model_fn,
        params=params,
        solver=solver,
        observation=observation,
        action=action,
        obs_horizon=config.obs_horizon,
        horizon=config.horizon,
        action_horizon=config.action_horizon,
        preview=MeasuredRows(config.preview, solver.name, len(solver)) if config.preview else None,
    )


def export_policy(
    policy: Policy,
    config: PolicyConfig,
    card: str,
    directory: str | Path = POLICIES,
    *,
    storage: DTypeLike | None = None,
) -> Path:
    """Write the three files that `load_policy` reads; returns the path of the weights.

    Args:
        policy: its network and its normalisers.
        config: what rebuilds it.
        card: Markdown.
        directory: where to.
        storage: of the network, as for `save_params`; the normalisers' ranges stay as they are.
    """
    directory = Path(directory)
    path = directory / f"{config.name}.safetensors"
    tree = {"params": rounded(policy.params, storage), "observation": policy.observation, "action": policy.action}
    save_params(path, tree, metadata={"name": config.name})
    save_policy_config(config, directory)
    write_text(directory / f"{config.name}.md", card)
    return path


def save_policy_config(config: PolicyConfig, directory: str | Path = POLICIES) -> Path:
    """Write the configuration alone, such as one with other `preview` rows; returns its path."""
    path = Path(directory) / f"{config.name}.json"
    write_text(path, json.dumps(dataclasses.asdict(config), indent=2) + "\n")
    return path
