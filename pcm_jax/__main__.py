"""`python -m pcm_jax`: version, devices and models, and one sample of each sampler as a check."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp

import pcm_jax as pcm

STEPS, BATCH = 50, 4


def main() -> None:
    """Say what there is, and whether it works."""
    kinds = sorted({device.device_kind for device in jax.devices()})
    print(f"pcm_jax {pcm.__version__}, jax {jax.__version__}, {jax.device_count()} x {', '.join(kinds)}")
    print(
        f"models: {', '.join(pcm.pretrained.available())}; policies: {', '.join(pcm.pretrained.available_policies())}"
    )
    model = pcm.pretrained.load("digits")
    solver = pcm.solvers.ddim(model.schedule, STEPS, prediction=model.prediction, clip=model.clip)
    noise = jax.random.normal(jax.random.key(0), (BATCH, *model.sample_shape))
    arguments = (model.model_fn, model.params, noise, solver)
    seconds, outs = [], []
    for sample in (
        lambda: pcm.sample_sequential(*arguments, cond=jnp.arange(BATCH)),
        lambda: pcm.sample_picard(*arguments, cond=jnp.arange(BATCH), prior=model.prior),
    ):
        jax.block_until_ready(sample())
        begin = time.perf_counter()
        outs.append(jax.block_until_ready(sample()))
        seconds.append(time.perf_counter() - begin)
    exact, out = outs
    error = float(jnp.max(jnp.sqrt(jnp.mean((out.sample - exact.sample) ** 2, axis=(1, 2, 3)))))
    bound = float(jnp.max(out.error_bound))
    rounds = int(out.stats.rounds.max())
    print(f"{BATCH} digits, DDIM-{STEPS}: sequential {STEPS} calls in a row, {1e3 * seconds[0]:.1f} ms")
    print(f"  parallel {rounds} rounds, {1e3 * seconds[1]:.1f} ms, RMS error {error:.1e}, of at most {bound:.1e}")
    if not bool(jnp.all(out.converged)) or error > 1e-2:
        raise SystemExit(
            "the parallel sample is not the sequential one within 1e-2: please report this, with the above"
        )
    print("  the same samples: all is well")


if __name__ == "__main__":
    main()
