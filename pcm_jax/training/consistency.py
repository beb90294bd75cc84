r"""Picard consistency: one round from any X^k lands on the fixed point X* (arXiv 2503.19731).

The paper's objective, in which Phi is a round of the fine-tuned model,

    L = E_k  alpha(k) || X* - Phi(X^k) ||^2 ,   alpha(k) = 1 / sqrt(Var(k)),   Var(k) = E || X^k - X* ||^2

compares states, sums of drifts. `target="drifts"` compares the summands, T || (F_i(x_i) - x_i) - (x*_{i+1} - x*_i)
||^2: the same minimum, and every row stands for itself, so that a few random rows of each trajectory are enough.

lambda[k, i] of the switch says which rows the fine-tuned model will evaluate. With the switch in the loop only those
are trained, and X^k comes from rounds like those that sampling will run. The paper's recipe is the table of ones, and
X^k from rounds of the base model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.lora import LoRA
from pcm_jax.recurrence.linearization import Linearization, secant
from pcm_jax.recurrence.window import take_rows
from pcm_jax.sampling.network import call_rows
from pcm_jax.switching import Adapter, FeatureSpace, ParameterSpace
from pcm_jax.switching.spaces import FactoredFn
from pcm_jax.training.rounds import Base, Trajectory, advance, begin
from pcm_jax.types import Array, ModelFn

Tuned = Any
"""What is trained: a `LoRA`, or a whole parameter tree."""


@dataclasses.dataclass(frozen=True)
class Consistency:
    """loss(tuned, batch, key) -> (scalar, metrics), for `pcm_jax.training.train`.

    model_fn: the base model's function. factored: for LoRA, its factored form (`networks.FactoredLinen`); None tunes
    all parameters. table: lambda[k, i] of the switch, rows of ones and zeros. on_policy: X^k comes from the rounds of
    the model in training under that switch; else from the batch. target, distance: what is compared and how;
    pseudo_huber is sqrt(|e|^2 + c^2) - c with c = 0.03 (arXiv 2310.14189), per row. rows: that many random rows of
    each trajectory instead of all that the switch gives to the fine-tuned model; drifts only. late: rows weigh
    ((i + 1) / T)^late. unroll: that many rounds of the base model behind the one that is trained, inside the loss;
    states only. alpha: weigh rounds by 1 / sqrt(Var(k)), estimated from the batch, whose samples share the
    round. dtype: of the network's computations; parameters stay as they are.

    A batch holds exact `[B, T + 1, ...]`, cond, round (int32 `[B]`, all the same), step_noise `[B, T, ...]` for
    stochastic solvers, x `[B, T + 1, ...]` (X^k) unless on_policy, and frozen, a `Base`.
    """

    model_fn: ModelFn
    factored: FactoredFn | None
    table: tuple[tuple[float, ...], ...]
    on_policy: bool = True
    target: Literal["drifts", "states"] = "drifts"
    distance: Literal["l2", "pseudo_huber"] = "l2"
    rows: int | None = None
    late: float = 0.0
    alpha: bool = True
    unroll: int = 0
    linearization: Linearization = secant()  # noqa: RUF009 - frozen
    dtype: str = "float32"

    def __post_init__(self) -> None:
        table = np.asarray(self.table)
        if table.ndim != 2 or not np.all((table == 0) | (table == 1)) or not table.any():
            raise ValueError("table must be [rounds, rows] of zeros and ones with a one in it: who evaluates which row")
        if not table.any(axis=1).all():
            raise ValueError("every round of the table needs a row of the fine-tuned model; drop rounds without one")
        if self.rows is not None and self.target != "drifts":
            raise ValueError("rows= picks rows that stand for themselves; use target='drifts' with it")
        if self.unroll and self.target != "states":
            raise ValueError("unroll= compares what later rounds make of the states; use target='states' with it")
        if self.rows is not None:
            checks.whole("rows", self.rows)
        checks.whole("unroll", self.unroll, 0)
        checks.function("model_fn", self.model_fn, "(params, x, t, cond) -> prediction")
        if self.dtype not in ("float16", "bfloat16", "float32", "float64"):
            raise ValueError(
                f"dtype must be the name of a float type such as 'bfloat16', got {checks.shown(self.dtype)}"
            )
        checks.number("late", self.late, 0, hint="0 weighs all rows alike")
        checks.flag("alpha", self.alpha)
        checks.flag("on_policy", self.on_policy)
        for name, value, known in (
            ("target", self.target, ("drifts", "states")),
            ("distance", self.distance, ("l2", "pseudo_huber")),
        ):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}; choose {' or '.join(known)}")

    def evaluations(self, num_steps: int, stored: bool = False) -> float:
        """Forward evaluations of the network that a training step costs for each trajectory, on average.

        The exact solution takes T, each round before the one that is trained T, and a row with a gradient counts three.
        stored: the exact solutions are there already, and so are the rounds of the base model.
        """
        trained = [min(self.rows or num_steps, int(np.sum(row))) for row in self.table]
        before = num_steps * sum(range(len(self.table))) / len(self.table)
        made = (before if self.on_policy else 0.0) if stored else num_steps + before
        return made + 3 * float(np.mean(trained)) + 3 * self.unroll * num_steps

    def adapter(self, tuned: Tuned) -> FeatureSpace | ParameterSpace:
        """`tuned` as samplers take it."""
        return FeatureSpace(tuned) if self.factored is None else ParameterSpace(tuned, self.factored)

    def _straight(self, tuned: Tuned) -> Adapter:
        """What gradients go through."""
        return FeatureSpace(tuned, branch=False) if self.factored is None else ParameterSpace(tuned, self.factored)

    def __call__(self, tuned: Tuned, batch: Mapping[str, Any], key: Array) -> tuple[Array, dict[str, Array]]:
        base: Base = batch["frozen"]
        exact = jnp.moveaxis(batch["exact"], 0, 1)
        z = None if batch.get("step_noise") is None else jnp.moveaxis(batch["step_noise"], 0, 1)
        k = batch["round"][0]
        if self.on_policy:
            x = jax.lax.stop_gradient(self._rollout(tuned, base, exact[0], batch["cond"], z, k))
        else:
            x = jnp.moveaxis(batch["x"], 0, 1)
        share = jnp.asarray(self.table, x.dtype)[jnp.minimum(k, len(self.table) - 1)]
        if self.target == "states":
            error, weight = self._states(tuned, base, x, exact, batch["cond"], z, share)
        else:
            error, weight = self._drifts(tuned, base, x, exact, batch["cond"], z, share, key)
        square = jnp.mean(jnp.square(error).astype(jnp.float32).reshape(*error.shape[:2], -1), axis=-1)
        distance = square if self.distance == "l2" else jnp.sqrt(square + _HUBER**2) - _HUBER
        loss = jnp.sum(weight * distance) / jnp.maximum(jnp.sum(weight), 1e-6)
        spread = jnp.sqrt(jnp.mean(jnp.square(x - exact)))
        weighted = loss / jnp.maximum(spread, 1e-3) if self.alpha else loss
        return weighted, {"distance": loss, "spread": spread, "round": k}

    def _rollout(self, tuned: Tuned, base: Base, noise: Array, cond: Any, z: Array | None, k: Array) -> Array:
        table = jnp.asarray(self.table, noise.dtype)

        def body(index: Array, at: Trajectory) -> Trajectory:
            return advance(self.model_fn, base, self.adapter(tuned), at, cond, z, table[index], self.linearization)

        return jax.lax.fori_loop(0, k, body, begin(self.model_fn, base, noise, cond, z)).x

    def _states(
        self, tuned: Tuned, base: Base, x: Array, exact: Array, cond: Any, z: Array | None, share: Array
    ) -> tuple[Array, Array]:
        """Error of the states behind the border after a round from x."""
        at = begin(self.model_fn, base, x[0], cond, z)._replace(x=x)
        at = advance(self.model_fn, base, self._straight(tuned), at, cond, z, share, self.linearization)
        for _ in range(self.unroll):
            at = advance(self.model_fn, base, None, at, cond, z, jnp.zeros_like(share), self.linearization)
        y = at.x
        weight = share * self._late(jnp.arange(len(base.solver)), len(base.solver))
        return y[1:] - exact[1:], jnp.broadcast_to(weight[:, None], (len(base.solver), x.shape[1]))

    def _drifts(
        self, tuned: Tuned, base: Base, x: Array, exact: Array, cond: Any, z: Array | None, share: Array, key: Array
    ) -> tuple[Array, Array]:
        """sqrt(T) times the error of the rows' drifts."""
        num_steps, batch = len(base.solver), x.shape[1]
        index = jnp.broadcast_to(jnp.arange(num_steps)[:, None], (num_steps, batch))
        if self.rows is not None:
            # Random rows among those with lambda = 1, without repetition where there are enough of them.
            score = jax.random.uniform(key, (num_steps, batch)) + share[:, None]
            index = jnp.argsort(-score, axis=0)[: self.rows]
        table = base.solver.rows(index)
        old = take_rows(x[:-1], index)
        rows = share[index]
        dtype = jnp.dtype(self.dtype)
        cast = _to(dtype)
        prediction = call_rows(
            self.model_fn, cast(base.params), table.network_input(old), table.time, cond, dtype,
            self._straight(cast(tuned)), rows,
        ).astype(x.dtype)  # fmt: skip
        f = table.data(old, prediction, free=rows > 0)
        noise = None if z is None else take_rows(z, index)
        if base.solver.multistep:
            raise ValueError("drifts of a multistep solver are not one row's own; use target='states'")
        drift = table.step(old, f, z=noise, prediction=prediction) - old
        wanted = take_rows(exact[1:] - exact[:-1], index)
        return jnp.sqrt(1.0 * num_steps) * (drift - wanted), rows * self._late(index, num_steps)

    def _late(self, index: Array, num_steps: int) -> Array:
        return ((index + 1) / num_steps) ** self.late


_HUBER = 0.03


def _to(dtype: Any) -> Any:
    def cast(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return lambda tree: jax.tree.map(cast, tree)


def consistency(
    model_fn: ModelFn, tuned: Tuned, table: Any, *, factored: FactoredFn | None = None, **options: Any
) -> Consistency:
    """The loss for `tuned`: a `LoRA` (with the model's factored form), or a full parameter tree.

    Args:
        model_fn: the base model's function.
        tuned: where training starts; only its kind matters here.
        table: lambda `[rounds, rows]`.
        factored: `pcm_jax.networks.FactoredLinen(module)` for a LoRA.
        options: fields of `Consistency`.
    """
    if isinstance(tuned, LoRA) != (factored is not None):
        raise ValueError(
            "a LoRA is trained in factored form: pass factored=networks.FactoredLinen(module), and only then"
        )
    return Consistency(model_fn, factored, tuple(map(tuple, np.asarray(table, float).tolist())), **options)
