"""The whole recipe: train under the switch, measure the switch anew, and again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.lora import LoRA
from pcm_jax.lora import check as check_lora
from pcm_jax.priors import GaussianPrior
from pcm_jax.recurrence.linearization import Linearization, identity, secant
from pcm_jax.sampling.validate import check_common
from pcm_jax.solvers import Solver
from pcm_jax.switching import FeatureSpace, ParameterSpace, Switch, calibrated, never
from pcm_jax.switching.spaces import FactoredFn
from pcm_jax.training.calibration import Calibration, calibrate
from pcm_jax.training.consistency import Consistency, Tuned, consistency
from pcm_jax.training.rounds import Base, error_per_round
from pcm_jax.training.state import OptimizerConfig, TrainState
from pcm_jax.training.stored import StoredTrajectories
from pcm_jax.training.trainer import TrainConfig, train
from pcm_jax.training.trajectories import DrawCond, OnlineTrajectories, solve_batch
from pcm_jax.types import ModelFn, Params


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """How long, how many, and by which recipe.

    phases: steps of each training run; the switch is measured after every one. The first phase trains all rows of the
    first round. paper: the paper's recipe instead, every row of `paper_rounds` rounds, X^k from the base model's plain
    Picard, states compared; the switch is measured at the end. batch_size: trajectories a step. heldout: noises that
    the switch is measured on. calibration_rounds: longest table. evaluate_rounds: rounds of the error curve that is
    logged. loss: further fields of `Consistency`. round_weights: how often each round of `paper_rounds` is trained.
    """

    phases: tuple[int, ...] = (120, 120)
    batch_size: int = 16
    optimizer: OptimizerConfig = OptimizerConfig(2e-3, warmup_steps=20, ema_decay=0.99)  # noqa: RUF009 - frozen
    heldout: int = 32
    calibration_rounds: int = 4
    evaluate_rounds: int = 6
    evaluate_every: int = 100
    paper: bool = False
    paper_rounds: int = 6
    loss: tuple[tuple[str, Any], ...] = ()
    round_weights: tuple[float, ...] | None = None
    accumulate: int = 1
    data_parallel: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.phases, (tuple, list)) or not self.phases:
            raise ValueError(f"phases must be numbers of steps, at least one of them, got {self.phases!r}")
        for steps in self.phases:
            checks.whole("phases", steps)
        for name in (
            "batch_size", "heldout", "calibration_rounds", "evaluate_rounds", "evaluate_every", "paper_rounds",
            "accumulate", "data_parallel",
        ):  # fmt: skip
            checks.whole(name, getattr(self, name))
        checks.whole("seed", self.seed, 0)
        checks.flag("paper", self.paper)
        if not isinstance(self.optimizer, OptimizerConfig):
            raise ValueError(f"optimizer must be an OptimizerConfig, got {checks.shown(self.optimizer)}")
        try:
            options = dict(self.loss)
        except (TypeError, ValueError):
            raise ValueError(f"loss must be pairs (field of Consistency, value), got {self.loss!r}") from None
        unknown = sorted(options.keys() - {field.name for field in dataclasses.fields(Consistency)})
        if unknown:
            raise ValueError(f"loss names {unknown[0]!r}, which is no field of pcm_jax.training.Consistency")


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """What `sample_picard` takes as `adapter=` and `switch=`, and how it came about.

    tuned: the moving average, which `adapter` holds. calibration: the switch, measured last; its history is `tables`.
    evaluations: forward evaluations of the network that everything took, a row with a gradient counting three.
    """

    tuned: Tuned
    calibration: Calibration
    tables: tuple[np.ndarray, ...]
    evaluations: float
    adapter: FeatureSpace | ParameterSpace

    @property
    def switch(self) -> Switch:
        """The calibrated one; never() if the fine-tuned model was worth no round."""
        table = self.calibration.table
        return calibrated(table) if len(table) else never()


def finetune(
    model_fn: ModelFn,
    params: Params,
    solver: Solver,
    shape: tuple[int, ...],
    tuned: Tuned,
    config: FinetuneConfig,
    *,
    draw_cond: DrawCond,
    factored: FactoredFn | None = None,
    linearization: Linearization = secant(),  # noqa: B008 - frozen
    prior: GaussianPrior | None = None,
    stored: str | None = None,
    directory: str | None = None,
    fall_back: bool = False,
    report: Callable[[str], None] = lambda text: None,
    progress: bool = True,
) -> Finetuned:
    """Fine-tune `tuned` (a `LoRA` or a copy of `params`) so that one round jumps to the fixed point.

    Args:
        model_fn, params, solver: the base model and its sampler.
        shape: of one sample.
        tuned: where to start; a LoRA needs `factored`, its factored form.
        draw_cond: conditioning to train on, such as `Labels(10)`.
        linearization: the slope that sampling will use.
        prior: what sampling will start from; None for copies of the noise.
        stored: a set that `collect` wrote, to train on instead of fresh trajectories; its solutions count once. It is
            checked before anything is computed.
        directory: phases are kept there, one folder each, and gone on with when they are there already.
        fall_back: of `train`, for phases whose last checkpoint cannot be read.
        report: called with a line of text after every phase.
        progress: show a bar.

    Returns:
        The fine-tuned model and its switch.

    Raises:
        ValueError: arguments that do not fit each other; a stored set that `StoredTrajectories` refuses, or one drawn
            from the seed of the held-out noises.
    """
    _check_arguments(model_fn, params, solver, shape, tuned, draw_cond, factored)
    base = Base(params, solver, prior)
    spent = float(config.heldout * len(solver))
    if stored is not None:
        spent += _check_stored(stored, model_fn, base, shape, config)
    heldout_key, train_key = jax.random.split(jax.random.key(config.seed))
    heldout = solve_batch(model_fn, base, shape, config.heldout, draw_cond, heldout_key)
    num_steps = len(solver)
    options = dict(config.loss)
    if config.paper:
        options = {"on_policy": False, "target": "states", "linearization": identity()} | options
    table = np.ones((config.paper_rounds if config.paper else 1, num_steps), np.float32)
    tables, calibration = [table], None
    for phase, steps in enumerate(config.phases):
        loss = consistency(model_fn, tuned, table, factored=factored, **{"linearization": linearization} | options)
        how: dict[str, Any] = {
            "batch_size": config.batch_size,
            "rounds": len(table),
            "seed": config.seed + 1000 * (phase + 1),
            "source": "on_policy" if loss.on_policy else "picard",
            "round_weights": config.round_weights if config.paper else None,
        }
        batches = (
            OnlineTrajectories(model_fn, params, solver, shape, draw_cond=draw_cond, prior=prior, **how)
            if stored is None
            else StoredTrajectories(stored, params, solver, shape, prior=prior, model_fn=model_fn, **how)
        )

        def curve(state: TrainState, loss: Consistency = loss, table: np.ndarray = table) -> dict[str, Any]:
            errors = error_per_round(
                model_fn,
                linearization,
                config.evaluate_rounds,
                base,
                loss.adapter(state.ema),
                heldout,
                jnp.asarray(table),
            )
            return {f"error_round_{k + 1}": errors[k] for k in range(config.evaluate_rounds)}

        length = TrainConfig(
            num_steps=steps,
            optimizer=config.optimizer,
            directory=None if directory is None else f"{directory}/phase_{phase}",
            evaluate_every=config.evaluate_every,
            checkpoint_every=max(1, min(200, steps)),
            log_every=10,
            accumulate=config.accumulate,
            data_parallel=config.data_parallel,
            progress=progress,
        )
        state = train(
            length,
            loss,
            tuned,
            batches,
            jax.random.fold_in(train_key, phase),
            evaluate=curve,
            fall_back=fall_back,
            frozen=base,
        )
        tuned = jax.tree.map(jnp.asarray, jax.device_get(state.ema))
        spent += steps * config.batch_size * loss.evaluations(num_steps, stored is not None)
        spent += -(-steps // config.evaluate_every) * config.evaluate_rounds * config.heldout * num_steps
        calibration = calibrate(
            model_fn,
            base,
            loss.adapter(tuned),
            heldout,
            rounds=config.calibration_rounds,
            linearization=linearization,
        )
        spent += calibration.evaluations
        error = np.array2string(calibration.error[0], precision=3)
        report(f"phase {phase}: borders {calibration.borders}; without and with it {error}")
        tables.append(calibration.table)
        if len(calibration.table) and not config.paper:
            table = calibration.table
    assert calibration is not None
    return Finetuned(tuned, calibration, tuple(tables), spent, loss.adapter(tuned))


def _check_arguments(
    model_fn: Any, params: Any, solver: Any, shape: Any, tuned: Any, draw_cond: Any, factored: Any
) -> None:
    """Before anything is solved: a sampler call with one of the conditions, and a LoRA with its factored form."""
    checks.function("draw_cond", draw_cond, "(key, size) -> conditioning, such as Labels(10)")
    if isinstance(tuned, LoRA) and factored is None:
        raise ValueError(
            "a LoRA is trained in its factored form: pass factored=networks.FactoredLinen(module), or tune a merged "
            "copy of all parameters"
        )
    if isinstance(tuned, LoRA):
        check_lora(params, tuned)
    if not isinstance(shape, (tuple, list)) or not shape:
        raise ValueError(f"shape must be of one sample, such as (16, 16, 1), got {shape!r}")
    for size in shape:
        checks.whole("shape", size)
    noise = jnp.zeros((1, *shape))
    z = jnp.zeros((len(solver), *noise.shape)) if isinstance(solver, Solver) and solver.stochastic else None
    check_common(model_fn, params, noise, solver, draw_cond(jax.random.key(0), 1), None, z)


def _check_stored(stored: str, model_fn: ModelFn, base: Base, shape: tuple[int, ...], config: FinetuneConfig) -> float:
    """Evaluations that the set and its check took; a ValueError if any phase could not be trained on it."""
    on_policy = dict(config.loss).get("on_policy", not config.paper)
    tables = config.calibration_rounds if len(config.phases) > 1 else 1
    pool = StoredTrajectories(
        stored,
        base.params,
        base.solver,
        shape,
        batch_size=config.batch_size,
        rounds=config.paper_rounds if config.paper else max(1, tables),
        seed=0,
        source="on_policy" if on_policy else "picard",
        prior=base.prior,
        model_fn=model_fn,
    ).records
    if pool.about["seed"] == config.seed:
        # The children of one key are numbered: the set's first shard and the held-out noises are both number 0.
        raise ValueError(
            f"{stored} was drawn from seed {config.seed}, the seed of the held-out noises too, which would then be "
            "among those trained on; choose another seed in FinetuneConfig"
        )
    return float(len(base.solver) * (len(pool) * pool.about["rounds"] + 1))
