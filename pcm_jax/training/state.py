"""What training carries from step to step, and the step."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from pcm_jax import checks
from pcm_jax.types import Array, Params

Loss = Callable[[Params, Any, Array], tuple[Array, dict[str, Array]]]
"""loss(params, batch, key) -> (float32 scalar, metrics)."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All of it: two runs with equal states and equal batches stay equal.

    ema: moving average of params, what samplers should use. step: int32, steps done. key: root key, never advanced;
    step k draws from fold_in(key, k).
    """

    params: Params
    ema: Params
    opt_state: optax.OptState
    step: Array
    key: Array


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam (AdamW where weight_decay > 0) with linear warm-up, cosine decay to zero and global-norm clipping.

    ema_decay: largest decay of the average; early on it is (1 + step) / (10 + step), so that the random start is
    forgotten.
    """

    learning_rate: float = 1e-3
    warmup_steps: int = 200
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999

    def __post_init__(self) -> None:
        checks.number("learning_rate", self.learning_rate, 0, above=True)
        checks.whole("warmup_steps", self.warmup_steps, 0)
        checks.number("weight_decay", self.weight_decay, 0)
        checks.number("max_grad_norm", self.max_grad_norm, 0, above=True)
        checks.number("ema_decay", self.ema_decay, 0, 1, below=True, hint="0 is no average, 1 would never move")

    @functools.lru_cache(maxsize=8)  # noqa: B019 - frozen
    def build(self, num_steps: int) -> optax.GradientTransformation:
        """The optimiser of a run of `num_steps`."""
        rate = optax.warmup_cosine_decay_schedule(
            0.0, self.learning_rate, min(self.warmup_steps, max(num_steps // 2, 1)), max(num_steps, 2)
        )
        adam = optax.adamw(rate, weight_decay=self.weight_decay) if self.weight_decay else optax.adam(rate)
        return optax.chain(optax.clip_by_global_norm(self.max_grad_norm), adam)


def init_state(params: Params, optimizer: optax.GradientTransformation, key: Array) -> TrainState:
    """Step 0. Copies `params`: the step gives its buffers away, and the caller may still need theirs."""

    def copy(tree: Params) -> Params:
        # With its dtype spelled out a weakly typed leaf becomes a plain one, as the step returns it: one compilation.
        return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=leaf.dtype), tree)

    return TrainState(
        params=copy(params),
        ema=copy(params),
        opt_state=copy(optimizer.init(copy(params))),
        step=jnp.int32(0),
        key=jnp.copy(key),
    )


def update_ema(ema: Params, params: Params, step: Array, decay: float) -> Params:
    """d ema + (1 - d) params, d = min(decay, (1 + step) / (10 + step))."""
    checks.number("decay", decay, 0, 1, below=True)
    rate = 1 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old + (rate * (new - old)).astype(old.dtype), ema, params)


@functools.lru_cache(maxsize=8)
def make_step(
    loss: Loss, optimizer: optax.GradientTransformation, ema_decay: float, accumulate: int = 1
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]]:
    """A compiled step(state, batch) -> (state, metrics). The state given in is donated: do not use it again.

    The same arguments give the same step, so that going on in one process does not compile again.

    accumulate: the batch is worked off in that many equal parts, one after the other, for their mean gradient. Under
    the batch's key "frozen" stands what all parts share.
    """
    gradient = jax.value_and_grad(loss, has_aux=True)

    def accumulated(params: Params, batch: Any, key: Array) -> Any:
        shared = {"frozen": batch["frozen"]} if "frozen" in batch else {}
        split = {name: entry for name, entry in batch.items() if name != "frozen"}
        parts = jax.tree.map(lambda leaf: leaf.reshape(accumulate, -1, *leaf.shape[1:]), split)
        keys = jax.random.split(key, accumulate)
        each = jax.lax.map(lambda part: gradient(params, part[0] | shared, part[1]), (parts, keys))
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), each)

    def step(state: TrainState, batch: Any) -> tuple[TrainState, dict[str, Array]]:
        key = jax.random.fold_in(state.key, state.step)
        (value, metrics), grads = (gradient if accumulate == 1 else accumulated)(state.params, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = TrainState(
            params=params,
            ema=update_ema(state.ema, params, state.step, ema_decay),
            opt_state=opt_state,
            step=state.step + 1,
            key=state.key,
        )
        return new, {"loss": value, "grad_norm": optax.tree.norm(grads), **metrics}

    return jax.jit(step, donate_argnums=0)
