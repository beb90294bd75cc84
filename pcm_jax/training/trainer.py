"""The training loop: batches in, checkpoints and metrics out, resumable at any moment."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pcm_jax import checks
from pcm_jax.checkpoint import Checkpoints
from pcm_jax.files import write_text
from pcm_jax.parallel.layout import everywhere
from pcm_jax.training.arguments import check_arguments, check_batch
from pcm_jax.training.progress import progress_bar
from pcm_jax.training.state import Loss, OptimizerConfig, TrainState, init_state, make_step
from pcm_jax.types import Array, Params

Evaluate = Callable[[TrainState], Mapping[str, Any]]


class Batches(Protocol):
    """Batches, and a position that fits into JSON, such as `pcm_jax.data.batch_iterator` gives."""

    def __next__(self) -> Any: ...

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Lengths and intervals of a run, in steps.

    directory: receives checkpoints/<step>/ and metrics.jsonl; None keeps nothing.
    stop_at: end this process early, as an interruption would; the schedule still runs to `num_steps`.
    accumulate: parts that a batch is worked off in, for batches that do not fit. data_parallel: devices that a batch is
    spread over; parameters are whole on each. Of several processes each gives the same batches and has a directory of
    its own, with checkpoints of its own.
    """

    num_steps: int
    optimizer: OptimizerConfig = OptimizerConfig()  # noqa: RUF009 - frozen
    directory: str | None = None
    checkpoint_every: int = 1000
    log_every: int = 100
    evaluate_every: int = 1000
    stop_at: int | None = None
    progress: bool = True
    accumulate: int = 1
    data_parallel: int = 1

    def __post_init__(self) -> None:
        for name in (
            "num_steps",
            "checkpoint_every",
            "log_every",
            "evaluate_every",
            "accumulate",
            "data_parallel",
        ):
            checks.whole(name, getattr(self, name))
        if self.stop_at is not None:
            checks.whole("stop_at", self.stop_at)
        checks.flag("progress", self.progress)
        if not isinstance(self.optimizer, OptimizerConfig):
            raise ValueError(f"optimizer must be an OptimizerConfig, got {checks.shown(self.optimizer)}")


def train(
    config: TrainConfig,
    loss: Loss,
    params: Params,
    batches: Batches,
    key: Array,
    *,
    evaluate: Evaluate | None = None,
    resume: bool = True,
    fall_back: bool = False,
    frozen: Any = None,
) -> TrainState:
    """Minimise `loss` and return the last state; use its `ema` for sampling.

    A run that was killed, and is started again with the same arguments, goes on from its last whole checkpoint and
    ends with the same parameters bit for bit (same device, same library versions).

    Args:
        loss: loss(params, batch, key) -> (scalar, metrics), pure.
        params: where to start when there is no checkpoint, and the architecture that a checkpoint must have.
        batches: iterator whose position is saved with the state.
        key: root of all randomness of the steps.
        evaluate: called with the state every `evaluate_every` steps and after the last; its numbers are logged.
        resume: False refuses to run in a directory that has checkpoints.
        fall_back: where the last checkpoint cannot be read, go on from the newest older one that can; those passed over
            are renamed, not deleted. By default that is an error that names it.
        frozen: arrays that are not trained, such as a base model's; every batch gets them under the key "frozen".

    Raises:
        ValueError: a loss, parameters or batches that cannot be trained, or too few of these; the directory's
            checkpoints are of another architecture, cannot be read, or are not wanted.
        OSError: a checkpoint cannot be written; the last whole one stays.
    """
    check_arguments(config, loss, params, batches, key)
    optimizer = config.optimizer.build(config.num_steps)
    state = init_state(params, optimizer, key)
    checkpoints = Checkpoints(Path(config.directory) / "checkpoints") if config.directory else None
    if checkpoints and checkpoints.latest() is not None:
        if not resume:
            raise ValueError(f"{config.directory} already has checkpoints; resume, or choose an empty directory")
        state, position = checkpoints.restore(state, fall_back=fall_back)
        batches.set_state(position)
    start = int(state.step)
    metrics_log = _Metrics(config.directory, start)
    step_fn = make_step(loss, optimizer, config.optimizer.ema_decay, config.accumulate)
    place = _placement(config.data_parallel)
    state, extra = place(state, None), {} if frozen is None else {"frozen": place(frozen, None)}
    last = min(config.num_steps, config.stop_at or config.num_steps)
    with progress_bar(last, start, "step", config.progress) as bar:
        for step in range(start + 1, last + 1):
            try:
                batch = next(batches)
            except StopIteration:
                raise ValueError(f"batches ended before step {step} of {last}; give an endless iterator") from None
            if step == start + 1:
                check_batch(config, loss, state, {**batch, **extra} if extra else batch)
            state, metrics = step_fn(state, {**place(batch, "data"), **extra} if extra else place(batch, "data"))
            if step % config.log_every == 0 or step == last:
                numbers = metrics_log.write(step, metrics)
                bar.set_postfix(loss=f"{numbers['loss']:.4f}")
            if evaluate and (step % config.evaluate_every == 0 or step == config.num_steps):
                metrics_log.write(step, evaluate(state))
            if checkpoints and (step % config.checkpoint_every == 0 or step == last):
                checkpoints.save(step, state, batches.get_state())
            bar.update()
    return state


def _placement(count: int) -> Callable[[Any, str | None], Any]:
    """put(tree, axis): leading axis spread over `count` devices, or with axis None whole on each."""
    if count == 1:
        return lambda tree, axis: tree
    devices = jax.devices()
    if count > len(devices):
        raise ValueError(f"data_parallel={count} devices asked for, there are {len(devices)}; choose 1..{len(devices)}")
    mesh = Mesh(np.asarray(devices[:count]), ("data",), axis_types=(AxisType.Auto,))

    def put(tree: Any, axis: str | None) -> Any:
        spec = PartitionSpec(axis) if axis else PartitionSpec()
        if all(device in jax.local_devices() for device in devices[:count]):
            return jax.device_put(tree, NamedSharding(mesh, spec))
        return everywhere(mesh, tree, spec)

    return put


class _Metrics:
    """Appends {"step", "seconds", numbers} lines; a resumed run first drops what came after its checkpoint."""

    def __init__(self, directory: str | None, start: int) -> None:
        self._path = Path(directory) / "metrics.jsonl" if directory else None
        self._started = time.perf_counter()
        if self._path is None:
            return
        kept = [line for line in read_metrics(self._path) if line["step"] <= start]
        self._started -= kept[-1]["seconds"] if kept else 0.0
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, metrics: Mapping[str, Any]) -> dict[str, float]:
        numbers = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        if self._path is not None:
            line = {"step": step, "seconds": round(time.perf_counter() - self._started, 3), **numbers}
            try:
                with self._path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
            except OSError as error:
                raise OSError(
                    f"the metrics of step {step} could not be written to {self._path} ({error}). Make room, or mend "
                    "the disk, and start again: the run goes on from its last whole checkpoint"
                ) from error
        return numbers


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; a last line that a killed run left half written is dropped."""
    if not Path(path).exists():
        return []
    if not Path(path).is_file():
        raise ValueError(f"{path} is no file; move it elsewhere")
    lines = Path(path).read_bytes().split(b"\n")
    try:
        return [dict(json.loads(line)) for line in lines[:-1]]
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, a line of it is no JSON object ({error}); move it elsewhere") from error
