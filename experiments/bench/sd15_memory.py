"""Memory of a network of Stable Diffusion 1.5's size: loading it in bfloat16, and one guided Picard round on a CPU.

    python -m experiments.bench.sd15_memory

The UNet has Stable Diffusion 1.5's configuration, 860 M parameters, and random weights, which are written to a scratch
folder first (1.6 GiB). Writes experiments/results/sd15_memory.json and the figure `import.sd15_peak_gib`, the largest
resident memory of the process. Linux; five minutes on 2 busy cores.
"""

from __future__ import annotations

import dataclasses
import json
import math
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

import pcm_jax as pcm
from experiments.common.figures import RESULTS, record, write_result
from experiments.models.sd15 import STABLE_DIFFUSION, TOKENS
from pcm_jax.guidance import prompt_guided, prompts
from pcm_jax.pretrained import diffusers
from pcm_jax.pretrained.diffusers import config as configs
from pcm_jax.pretrained.diffusers.weights import shapes
from pcm_jax.trees import flatten

COMMAND = "python -m experiments.bench.sd15_memory"


@dataclasses.dataclass(frozen=True)
class Config:
    """window: steps of the round, two network rows each. guidance: its scale. results: where to write."""

    window: int = 2
    guidance: float = 7.5
    seed: int = 0
    results: Path = RESULTS


def write_folder(folder: Path, config: dict[str, Any], seed: int) -> int:
    """config.json and random bfloat16 weights, one tensor at a time in memory; returns the number of parameters."""
    like = shapes(configs.build(config, "config.json", jnp.bfloat16))
    flat = flatten(like)
    sizes = {source.key: source.shape(flat[name].shape) for name, source in diffusers.key_map(like).items()}
    header: dict[str, Any] = {}
    end = 0
    for key, shape in sizes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    (folder / "config.json").write_text(json.dumps(config))
    text = json.dumps(header).encode()
    rng = np.random.default_rng(seed)
    with (folder / "diffusion_pytorch_model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for key, shape in sizes.items():
            draw = rng.standard_normal(shape, np.float32)
            # Variance 1 / fan-in for matrices, norms near 1 and small biases keep activations of order 1.
            draw *= 1 / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1
            draw += len(shape) == 1 and not key.endswith("bias")
            file.write(draw.astype(jnp.bfloat16).tobytes())
    return end // 2


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak() -> int:
    """Its largest number of bytes so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(config: Config, unet: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write, load, and run one round; sizes in GiB."""
    parameters = write_folder(folder, unet, config.seed)
    before, start = resident(), time.perf_counter()
    model = diffusers.load_denoiser(folder, dtype=jnp.bfloat16)
    jax.block_until_ready(model.params)
    loaded, loading = peak() - before, time.perf_counter() - start
    assert model.sample_shape is not None
    first, second, third = jax.random.split(jax.random.key(config.seed), 3)
    noise = jax.random.normal(first, (1, *model.sample_shape))
    text = jax.random.normal(second, (1, TOKENS, unet["cross_attention_dim"]))
    cond = prompts(text, jax.random.normal(third, text.shape))
    solver = pcm.solvers.ddim(pcm.schedules.scaled_linear_vp(), 50)
    guided = prompt_guided(model.model_fn, config.guidance)
    start = time.perf_counter()
    out = pcm.sample_picard(guided, model.params, noise, solver, cond=cond, window=config.window, tol=0.0, max_rounds=1)
    if not np.isfinite(out.sample).all():
        sys.exit("the round gave values that are NaN or infinite")
    return {
        "parameters": parameters,
        "rows": int(out.stats.evaluations.sum()),
        "weights_gib": 2 * parameters / 2**30,
        "loading_gib": loaded / 2**30,
        "loading_over_weights": loaded / (2 * parameters),
        "loading_seconds": loading,
        "round_seconds": time.perf_counter() - start,
        "peak_gib": peak() / 2**30,
    }


def main(config: Config) -> None:
    """Measure and record."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(config, STABLE_DIFFUSION, Path(folder))
    Console().print(found)
    about = {"window": config.window, "guidance": config.guidance, "unet": STABLE_DIFFUSION}
    write_result("sd15_memory", found, config=about, seed=config.seed, command=COMMAND, results=config.results)
    record("import.sd15_peak_gib", found["peak_gib"], command=COMMAND, results=config.results)


if __name__ == "__main__":
    main(tyro.cli(Config))
