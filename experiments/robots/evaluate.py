"""Episodes in the simulators: the same episodes and the same noise for every sampler.

    python -m experiments.robots eval --task pusht
    python -m experiments.robots eval --task push --methods DDPM-100 PCM --episodes 5
    python -m experiments.robots eval --task pusht --methods PCM --episodes 5 --video

Episodes of one method run in step with each other, as a batch; each draws from its own key, so that its actions do not
depend on its neighbours. A finished batch is kept in experiments/out, and an evaluation that was stopped goes on with
the next one.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.robots import environments
from experiments.robots.methods import METHODS, Method
from pcm_jax.files import write_text
from pcm_jax.policy import Controller, Decision, Policy
from pcm_jax.pretrained import PretrainedAdapter, available_adapters, load_adapter
from pcm_jax.pretrained.policies import load_policy
from pcm_jax.trees import fingerprint
from pcm_jax.types import Array

OUT = Path("experiments/out/robots/eval")


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Run a policy in its simulator.

    task: one, or "metaworld" for all eight. methods: default all. episodes: default 50 for Push-T and 20 for each task
    of Meta-World. batch: episodes that run in step. adapter: a PCM-LoRA in a file, such as `train-pcm --task` writes,
    instead of the shipped one. video: also write the first episode of each method as a GIF.
    """

    task: str = "pusht"
    methods: tuple[str, ...] = tuple(METHODS)
    episodes: int | None = None
    batch: int = 10
    adapter: Path | None = None
    video: bool = False
    seed: int = 0
    out: Path = OUT

    @property
    def tasks(self) -> tuple[str, ...]:
        return environments.METAWORLD if self.task == "metaworld" else (self.task,)

    def slug(self, task: str, method: str) -> str:
        """Of the names of files."""
        name = f"{task}-{method}" if self.adapter is None else f"{task}-{self.adapter.stem}-{method}"
        return name.replace(" + ", "_").replace(", ", "_").replace(" ", "_")


def policy_of(task: str) -> str:
    """The shipped policy that knows a task."""
    return "pusht" if task == "pusht" else "metaworld"


def adapter_of(policy: Policy, file: Path | None = None) -> PretrainedAdapter | None:
    """The PCM-LoRA in `file`, or else the one that is shipped, if there is one."""
    if file is not None:
        return load_adapter(file.stem, policy, file.parent)
    name = f"{policy.name}-ddpm100"
    return load_adapter(name, policy) if name in available_adapters() else None


def run_evaluate(config: Evaluate, console: Console) -> list[dict[str, Any]]:
    """All episodes, those measured before from their files; one dictionary for each."""
    unknown = [name for name in config.methods if name not in METHODS]
    if unknown:
        raise ValueError(f"unknown method {unknown[0]!r}; choose among {', '.join(METHODS)}")
    found: list[dict[str, Any]] = []
    worlds = functools.cache(lambda task: [environments.make(task) for _ in range(config.batch)])
    plan = [(task, name) for task in config.tasks for name in config.methods]
    bar = Progress(
        TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        line = bar.add_task("", total=sum(episodes_of(config, task) for task, _ in plan))
        for task, name in plan:
            bar.update(line, description=f"{task}: {name}")
            policy = load_policy(policy_of(task))
            sampler = METHODS[name].apply(policy, adapter_of(policy, config.adapter))
            for start in range(0, episodes_of(config, task), config.batch):
                numbers = range(start, min(start + config.batch, episodes_of(config, task)))
                found += _batch(config, task, METHODS[name], sampler, numbers, worlds)
                bar.advance(line, len(numbers))
    return found


def episodes_of(config: Evaluate, task: str) -> int:
    """How many."""
    return config.episodes or (50 if task == "pusht" else 20)


def _batch(
    config: Evaluate,
    task: str,
    method: Method,
    policy: Policy,
    numbers: range,
    worlds: Callable[[str], list[environments.Environment]],
) -> list[dict[str, Any]]:
    """Episodes `numbers`; from their file if they were run with these weights before."""
    weights = fingerprint((policy.params, policy.adapter, policy.prior, policy.observation, policy.action))
    options = None if policy.options is None else str(sorted(policy.options.items()))
    about = {"task": task, "method": method.name, "numbers": [*numbers], "seed": config.seed, "weights": weights}
    about["options"] = options
    path = config.out / f"{config.slug(task, method.name)}-{numbers.start}.json"
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["about"] == about:
            return list(kept["episodes"])
    episodes = roll_out(task, method, policy, numbers, config.seed, worlds(task)[: len(numbers)])
    write_text(path, json.dumps({"about": about, "episodes": episodes}))
    return episodes


def roll_out(
    task: str,
    method: Method,
    policy: Policy,
    numbers: range,
    seed: int,
    worlds: Sequence[environments.Environment],
    frames: list[np.ndarray] | None = None,
) -> list[dict[str, Any]]:
    """Run episodes in step until all are done.

    worlds: a simulator for each, reset here. frames: receives a picture of the first episode after every step.

    Raises:
        RuntimeError: a simulator threw; says in which episode and step.
    """
    root = jax.random.key(seed)
    keys = jax.vmap(lambda number: jax.random.fold_in(root, number))(np.asarray(numbers))
    log = _Log(policy, method)
    controller = Controller(policy, keys, warm_start=method.warm, on_decision=log)
    seen = np.stack(
        [_guarded(task, number, 0, world.reset, number) for world, number in zip(worlds, numbers, strict=True)]
    )
    last: list[environments.Step | None] = [None] * len(worlds)
    steps = np.zeros(len(worlds), int)
    for count in range(worlds[0].max_steps):
        log.begin()
        actions = controller.act(seen)
        for index, world in enumerate(worlds):
            before = last[index]
            if before is not None and before.done:
                continue
            step = _guarded(task, numbers[index], count, world.step, actions[index])
            last[index], seen[index], steps[index] = step, step.observation, count + 1
        if frames is not None:
            frames.append(worlds[0].picture())
        if all(step is not None and step.done for step in last):
            break
    return [
        {"task": task, "method": method.name, "number": number, "success": step.success, "score": step.score}
        | log.of(index, int(steps[index]))
        for index, (number, step) in enumerate(zip(numbers, last, strict=True))
        if step is not None
    ]


class _Log:
    """What every decision took, and how far an exact one was from the sequential sampler's on the same history.

    seconds: of the whole batch of robots; the first two decisions, which may compile, have none.
    """

    def __init__(self, policy: Policy, method: Method) -> None:
        self._chunk, self._range = policy.action_horizon, np.asarray(policy.action.range)
        self._oracle = policy.sequential() if method.exact and method.parallel else None
        self._lines: list[dict[str, np.ndarray]] = []
        self._start = 0.0

    def begin(self) -> None:
        """Before the controller is asked."""
        self._start = time.perf_counter()

    def __call__(self, decision: Decision, history: np.ndarray, keys: Array) -> None:
        seconds = time.perf_counter() - self._start
        line = {
            "rounds": np.asarray(decision.out.stats.rounds),
            "evaluations": np.asarray(decision.out.stats.evaluations),
            "certified": np.asarray(decision.out.converged),
            "seconds": np.full(len(history), seconds if len(self._lines) >= 2 else np.nan),
        }
        if self._oracle is not None:
            exact = np.asarray(self._oracle.act(history, keys).actions)
            line["difference"] = (np.abs(np.asarray(decision.actions) - exact) / self._range).max(axis=(1, 2))
        self._lines.append(line)

    def of(self, index: int, steps: int) -> dict[str, Any]:
        """Robot `index`, whose episode took `steps`; decisions after its end do not count."""
        mine = self._lines[: -(-steps // self._chunk)]
        lists = {name: [line[name][index].item() for line in mine] for name in mine[0]}
        return {"steps": steps} | lists


def _guarded(task: str, number: int, step: int, function: Any, argument: Any) -> Any:
    try:
        return function(argument)
    except Exception as error:
        raise RuntimeError(
            f"the simulator of {task} failed in episode {number} at step {step} ({type(error).__name__}: {error}); "
            "finished episodes are kept, the same command goes on with the others"
        ) from error
