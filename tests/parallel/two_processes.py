"""One of two processes that sample and train together; `test_two_processes` starts both and reads what they print.

python -m tests.parallel.two_processes ADDRESS PROCESS FOLDER
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import pcm_jax as pcm
from experiments.common import figures
from pcm_jax.checkpoint import Checkpoints
from pcm_jax.training import OptimizerConfig, TrainConfig, consistency, train
from pcm_jax.training.rounds import Base
from pcm_jax.training.trainer import read_metrics
from tests import problems

SOLVER = pcm.solvers.ddpm(problems.VP, 8)
LABELS = np.arange(4)
DRAW = np.random.default_rng(0)
# NumPy's: a JAX array would start this process's devices before it has joined the other one.
NOISE, STEP_NOISE, EXACT = (DRAW.normal(size=(*lead, 4, 6)).astype(np.float32) for lead in ((), (8,), (9,)))


@functools.cache
def params():
    return problems.mlp_params()


def picard(executor=None, weights=None, **options):
    return pcm.sample_picard(
        problems.mlp,
        weights or params(),
        NOISE,
        SOLVER,
        cond=LABELS,
        step_noise=STEP_NOISE,
        tol=1e-3,
        executor=executor or pcm.parallel.single(),
        **options,
    )


def difference(executor, one, weights=None, **options) -> dict[str, float]:
    """From one device's run, and whether rounds and results are its own."""
    out = picard(executor, weights, throw=True, **options)
    whole = functools.partial(multihost_utils.process_allgather, tiled=True)
    return {
        "difference": float(np.max(np.abs(whole(out.sample) - np.asarray(one.sample)))),
        "rounds_equal": whole(out.stats.rounds).tolist() == one.stats.rounds.tolist(),
        "results": whole(out.result).tolist(),
        "padded": int(out.stats.padded_evaluations) - int(one.stats.padded_evaluations),
    }


def mesh(shape: tuple[int, ...], names: tuple[str, ...]) -> Mesh:
    """Of all four devices."""
    return Mesh(np.asarray(jax.devices()).reshape(shape), names, axis_types=(AxisType.Auto,) * len(names))


def sharded(values: dict, over: Mesh, layout: dict) -> dict:
    """Parameters on a mesh, each process giving its parts."""

    def put(name: str):
        host = np.asarray(values[name])
        return jax.make_array_from_callback(
            host.shape, NamedSharding(over, PartitionSpec(*layout[name])), lambda index: host[index]
        )

    return {name: put(name) for name in layout}


class Batches:
    """The same batch in both processes; each places its devices' parts."""

    at = 0

    def __next__(self):
        self.at += 1
        rounds = np.full(4, self.at % 2, np.int32)
        exact, noise = (np.moveaxis(each, 0, 1) for each in (EXACT, STEP_NOISE))
        return {"exact": exact, "x": 0.9 * exact, "step_noise": noise, "cond": LABELS, "round": rounds}

    def get_state(self):
        return {"at": self.at}

    def set_state(self, state):
        self.at = state["at"]


def trained(directory: Path, devices: int):
    """Two steps of the consistency trainer from near the base model."""
    loss = consistency(problems.mlp, params(), np.ones((2, 8)), on_policy=False)
    config = TrainConfig(
        2,
        OptimizerConfig(1e-2, warmup_steps=1),
        directory=str(directory),
        checkpoint_every=1,
        log_every=1,
        progress=False,
        data_parallel=devices,
    )
    start = jax.tree.map(lambda leaf: 1.1 * leaf, params())
    base = Base(params(), SOLVER, None)
    return train(config, loss, start, Batches(), jax.random.key(3), frozen=base)


def check(folder: Path) -> dict:
    """Everything that both processes do together."""
    one, narrow = picard(), picard(window=3)
    window, both = mesh((4,), ("window",)), mesh((2, 2), ("data", "window"))
    tensor = mesh((2, 2), ("window", "model"))
    layout = {"w1": (None, "model"), "w2": ("model", None), "time": ("model",)}
    found: dict = {"devices": len(jax.devices()), "here": len(jax.local_devices())}
    found["window"] = difference(pcm.parallel.shard_map(window), one)
    found["data_window"] = difference(pcm.parallel.shard_map(both), narrow, window=3)
    found["constrained"] = difference(
        pcm.parallel.constrained(tensor, (None, "window")), one, sharded(params(), tensor, layout)
    )
    mine = folder / f"process{jax.process_index()}"
    alone, together = trained(mine / "alone", 1), trained(mine / "together", 4)
    logs = [read_metrics(mine / name / "metrics.jsonl") for name in ("alone", "together")]
    found["gradients"] = [[line["grad_norm"] for line in log] for log in logs]
    found["trainer"] = max(
        float(np.max(np.abs(np.asarray(a) - np.asarray(b))))
        for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(together.params), strict=True)
    )
    found["moved"] = float(jnp.max(jnp.abs(alone.params["w2"] - 1.1 * params()["w2"])))
    store = Checkpoints(mine / "together" / "checkpoints")
    restored, position = store.restore(alone)
    found["steps"], found["position"] = store.steps(), position
    found["restored"] = all(
        np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(jax.tree.leaves(restored.params), jax.tree.leaves(together.params), strict=True)
    )
    figures.write_result("together", {"by": jax.process_index()}, config={}, seed=0, command="none", results=folder)
    figures.record("together.by", jax.process_index(), command="none", results=folder)
    return found


def main(address: str, process: str, folder: str) -> None:
    """Join the other process, check, and print."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, num_processes=2, process_id=int(process), initialization_timeout=60)
    print(json.dumps(check(Path(folder))), flush=True)
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
