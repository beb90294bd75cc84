"""Exact solutions and Picard trajectories on disk: solved once, trained on as often as one likes."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcm_jax import checks
from pcm_jax.priors import GaussianPrior
from pcm_jax.recurrence.linearization import Linearization, identity
from pcm_jax.solvers import Solver
from pcm_jax.training import provenance
from pcm_jax.training.progress import progress_bar
from pcm_jax.training.rounds import Base, Trajectory, advance, begin
from pcm_jax.training.trajectories import DrawCond, round_probabilities, solve_batch
from pcm_jax.types import Array, ModelFn, Params


def collect(
    model_fn: ModelFn,
    params: Params,
    solver: Solver,
    shape: tuple[int, ...],
    directory: str | Path,
    *,
    num_trajectories: int,
    seed: int,
    draw_cond: DrawCond,
    rounds: int = 1,
    shard_size: int = 50,
    linearization: Linearization | None = None,
    prior: GaussianPrior | None = None,
    progress: bool = True,
) -> Path:
    """Solve, and write to `directory`: array_record through TFDS, see `pcm_jax.data.records`.

    A stopped collection goes on at its first missing shard, and ends with the same bytes. One shard at a time is in
    memory. X^0 is the prior's guess, or the noise in every row, and is not stored.

    Args:
        model_fn, params, solver: the base model and its sampler.
        shape: of one sample.
        directory: of the set.
        num_trajectories: how many noises.
        seed: of all of them.
        draw_cond: their conditioning: an array with leading axis B, a mapping of such arrays, or None.
        rounds: K, the states X^0 .. X^(K-1) of the base model are kept; 1 keeps the exact solutions alone.
        shard_size: trajectories solved and written at once.
        linearization: of those rounds, by default the identity, plain Picard.
        prior: of the guess X^0.
        progress: show a bar.

    Raises:
        ValueError: a count below 1, a conditioning of anything else, or a folder with another set.
    """
    # Here and below: training without stored sets needs none of the data libraries.
    from pcm_jax.data.records import finished_shards, write_records

    for name, value in (("num_trajectories", num_trajectories), ("rounds", rounds), ("shard_size", shard_size)):
        checks.whole(name, value)
    checks.whole("seed", seed, 0)
    checks.flag("progress", progress)
    checks.function("draw_cond", draw_cond, "(key, size) -> conditioning, such as Labels(10)")
    slope = identity() if linearization is None else linearization
    base, key = Base(params, solver, prior), jax.random.key(seed)
    lengths = [min(shard_size, num_trajectories - at) for at in range(0, num_trajectories, shard_size)]

    def solve(shard: int) -> dict[str, np.ndarray]:
        batch = solve_batch(model_fn, base, shape, lengths[shard], draw_cond, jax.random.fold_in(key, shard))
        if rounds > 1:
            batch["x"] = _iterates(model_fn, slope, rounds - 1, base, batch)
        return {name: np.asarray(value) for name, value in _flat(batch).items()}

    def examples(shard: int) -> Iterator[dict[str, np.ndarray]]:
        arrays = solve(shard)
        for row in range(lengths[shard]):
            yield {name: value[row] for name, value in arrays.items()}
        bar.update()

    about = provenance.about(base, shape) | {"seed": seed, "rounds": rounds, "linearization": repr(slope)}
    described = jax.eval_shape(functools.partial(_described, model_fn, base, shape, draw_cond, rounds), key)
    features = {name: (leaf.shape[1:], np.dtype(leaf.dtype).name) for name, leaf in described.items()}
    with progress_bar(len(lengths), finished_shards(directory), "shard", progress) as bar:
        write_records(directory, features, lengths, examples, about, {"versions": provenance.versions()})
    return Path(directory)


class StoredTrajectories:
    """Endless shuffled batches of a collected set, in the form that `OnlineTrajectories` gives.

    The order and the round k of every batch follow from (seed, step), so that any position can be returned to.

    Args:
        directory: written by `collect`.
        params, solver, shape: what it has to have been collected with.
        batch_size: trajectories a batch.
        rounds: k is drawn from 0 .. rounds - 1, one k for a batch, with the weights round_weights.
        seed: of the order.
        source: "on_policy" gives exact solutions, "picard" adds X^k.
        linearization: of the rounds of "picard", by default the identity.
        prior: of the guess X^0.
        model_fn: if given, the first trajectory's steps are compared with its own, T evaluations: equal parameters do
            not make equal guidance. The guess of a prior needs it.

    Raises:
        ValueError: a set of another solver, model, slope or shape, one with fewer rounds or trajectories than asked
            for, an incomplete one or a cut file.
    """

    def __init__(
        self,
        directory: str | Path,
        params: Params,
        solver: Solver,
        shape: tuple[int, ...],
        *,
        batch_size: int,
        rounds: int,
        seed: int,
        source: str = "on_policy",
        round_weights: Sequence[float] | None = None,
        linearization: Linearization | None = None,
        prior: GaussianPrior | None = None,
        model_fn: ModelFn | None = None,
    ) -> None:
        from pcm_jax.data.records import Records

        if source not in ("on_policy", "picard"):
            raise ValueError(f"unknown source {source!r}; choose on_policy or picard")
        self._weights = round_probabilities(rounds, round_weights)
        records = Records(directory)
        base = Base(params, solver, prior)
        wanted = provenance.about(base, shape)
        if source == "picard" and rounds > 1:
            wanted["linearization"] = repr(identity() if linearization is None else linearization)
        else:
            del wanted["prior"]  # solutions do not depend on it
        if source == "picard" and prior is not None and model_fn is None:
            raise ValueError("a prior's guess depends on the model's guidance: pass model_fn= with prior=")
        provenance.check_about(directory, records.about, wanted)
        if source == "picard" and rounds > records.about["rounds"]:
            raise ValueError(
                f"{directory} holds X^0 .. X^{records.about['rounds'] - 1}, and {rounds} rounds are asked for; collect "
                f"it again with rounds={rounds}"
            )
        if not 1 <= batch_size <= len(records):
            raise ValueError(f"batch_size must lie in 1..{len(records)}, the trajectories there are, got {batch_size}")
        if model_fn is not None:
            provenance.check_model(directory, model_fn, base, _nested(records.rows([0])))
        self.records, self._picard, self._seed, self._step = records, source == "picard", seed, 0
        self._batches = records.batches(batch_size, seed)
        self._first = functools.partial(_first_guess, model_fn, base)

    def __next__(self) -> dict[str, Any]:
        index = self._batches[self._step]
        k = int(np.random.default_rng((self._seed, self._step)).choice(len(self._weights), p=self._weights))
        rows = _nested(self.records.rows(index))
        batch: dict[str, Any] = {name: rows.get(name) for name in ("exact", "cond", "step_noise")}
        if self._picard:
            batch["x"] = rows["x"][:, k - 1] if k else np.asarray(self._first(batch))
        batch["round"] = np.full(len(index), k, np.int32)
        self._step += 1
        return batch

    def get_state(self) -> dict[str, Any]:
        """The position, for JSON."""
        return {"step": self._step}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a position."""
        self._step = int(state["step"])


def _described(
    model_fn: ModelFn, base: Base, shape: tuple[int, ...], draw_cond: DrawCond, rounds: int, key: Array
) -> dict[str, Array]:
    """One example of the set, traced for its shapes alone."""
    cond = draw_cond(key, 1)  # its kind is refused here, before the network stumbles over it
    leaves = cond.values() if isinstance(cond, Mapping) else [cond]
    if not all(leaf is None or hasattr(leaf, "dtype") for leaf in leaves):
        raise ValueError(
            "draw_cond must give an array, a mapping of arrays or None to be stored, got "
            f"{type(cond).__name__} of {', '.join(type(leaf).__name__ for leaf in leaves)}"
        )
    batch = solve_batch(model_fn, base, shape, 1, draw_cond, key)
    if rounds > 1:
        batch["x"] = jnp.repeat(batch["exact"][:, None], rounds - 1, axis=1)
    return _flat(batch)


def _flat(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A condition of several arrays as entries "cond.NAME", and nothing that is None."""
    cond = batch["cond"]
    parts = {f"cond.{name}": leaf for name, leaf in cond.items()} if isinstance(cond, Mapping) else {"cond": cond}
    whole = {name: value for name, value in batch.items() if name != "cond"} | parts
    return {name: value for name, value in whole.items() if value is not None}


def _nested(rows: Mapping[str, Any]) -> dict[str, Any]:
    """What `_flat` took apart."""
    parts = {name.removeprefix("cond."): value for name, value in rows.items() if name.startswith("cond.")}
    whole = {name: value for name, value in rows.items() if not name.startswith("cond.")}
    return whole | ({"cond": parts} if parts else {})


@functools.partial(jax.jit, static_argnums=0)
def _first_guess(model_fn: ModelFn, base: Base, batch: dict[str, Any]) -> Array:
    """X^0 `[B, T + 1, ...]`."""
    z = None if batch["step_noise"] is None else jnp.moveaxis(batch["step_noise"], 0, 1)
    return jnp.moveaxis(begin(model_fn, base, batch["exact"][:, 0], batch["cond"], z).x, 0, 1)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _iterates(model_fn: ModelFn, linearization: Linearization, count: int, base: Base, batch: dict[str, Any]) -> Array:
    """X^1 .. X^count of the base model, `[B, count, T + 1, ...]`."""
    z = None if batch["step_noise"] is None else jnp.moveaxis(batch["step_noise"], 0, 1)
    share = jnp.zeros(len(base.solver))

    def body(at: Trajectory, _: None) -> tuple[Trajectory, Array]:
        new = advance(model_fn, base, None, at, batch["cond"], z, share, linearization)
        return new, new.x

    start = begin(model_fn, base, batch["exact"][:, 0], batch["cond"], z)
    return jnp.moveaxis(lax.scan(body, start, None, length=count)[1], 2, 0)
