"""Receding-horizon control: one observation in, one action out, and a decision whenever the last chunk is used up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.policy.decision import Decision
from pcm_jax.policy.policy import Policy
from pcm_jax.types import Array


class Controller:
    """Runs a policy on B robots in step with each other.

    keys: `[B]`, one for each robot; decision n of a robot is drawn from `fold_in(key, n)`. warm_start: the last chunk
    is the first guess of the next one. on_decision: called with every decision, the history `[B, obs_horizon, O]` and
    the keys `[B]` that it was made from. A policy with vision takes mappings of observations, `[B, ..]` each.

    Example:
        controller = Controller(policy, jax.random.split(jax.random.key(0), 1))
        action = controller.act(observation[None])[0]
    """

    def __init__(
        self,
        policy: Policy,
        keys: Array,
        *,
        warm_start: bool = False,
        on_decision: Callable[[Decision, Any, Array], None] = lambda decision, history, keys: None,
    ) -> None:
        if not isinstance(policy, Policy):
            raise ValueError(f"policy must be a pcm_jax.policy.Policy, got {checks.shown(policy)}")
        if jnp.ndim(keys) < 1 or not checks.keys_of(keys, jnp.shape(keys)[:1]):
            raise ValueError(f"keys must be [B] PRNG keys, jax.random.split(key, B), got {checks.shown(keys)}")
        checks.flag("warm_start", warm_start)
        checks.function("on_decision", on_decision, "(decision, history, keys)")
        self.policy, self._keys, self._warm, self._report = policy, keys, warm_start, on_decision
        self.reset()

    def reset(self) -> None:
        """Begin new episodes, with the same keys."""
        self._history: Any = None
        self._queue: list[np.ndarray] = []
        self._decisions = 0
        self._last: Decision | None = None

    def act(self, observation: np.ndarray | Mapping[str, np.ndarray]) -> np.ndarray:
        """The actions `[B, A]` for observations `[B, O]`."""
        size = self._keys.shape[0]
        if self.policy.vision is None:
            observation = np.asarray(observation, np.float32)
            if observation.ndim != 2:
                raise ValueError(f"observations must be [{size}, O], one for each key, got {observation.shape}")
        observation = jax.tree.map(np.asarray, observation)
        for leaf in jax.tree.leaves(observation):
            if leaf.shape[:1] != (size,):
                raise ValueError(f"observations must be [{size}, ..], one for each key, got {leaf.shape}")
            if not np.isfinite(leaf).all():
                bad = np.flatnonzero(~np.isfinite(leaf).reshape(size, -1).all(axis=1)).tolist()
                raise ValueError(f"the observations of robots {bad} hold NaN or inf; hold the last good ones, or stop")
        if self._history is None:
            self._history = jax.tree.map(
                lambda leaf: np.repeat(leaf[:, None], self.policy.obs_horizon, axis=1), observation
            )
        self._history = jax.tree.map(
            lambda kept, leaf: np.concatenate([kept[:, 1:], leaf[:, None]], axis=1), self._history, observation
        )
        if not self._queue:
            keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(self._keys, self._decisions)
            previous = self._last if self._warm else None
            self._last = jax.block_until_ready(self.policy.act(self._history, keys, previous))
            self._decisions += 1
            self._report(self._last, self._history, keys)
            actions = np.asarray(self._last.actions)
            if not np.isfinite(actions).all():
                raise FloatingPointError(
                    f"decision {self._decisions} of policy {self.policy.name} is not finite; its results are "
                    f"{np.asarray(self._last.out.result).tolist()} (2 is NONFINITE): check weights and observations"
                )
            self._queue = list(np.moveaxis(actions, 1, 0))
        return self._queue.pop(0)
