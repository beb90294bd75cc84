"""A model, its sampler and its conditions, whatever folder they came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.paper.config import Images, StableDiffusion
from pcm_jax import guidance
from pcm_jax.pretrained import diffusers
from pcm_jax.solvers import Solver
from pcm_jax.training import Drawn, Labels
from pcm_jax.types import Array, Cond, ModelFn, Params


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """What samplers and the trainer need. name, model_fn, params: as adapters want them.

    shape: of one sample. cond: of the samples number `start` .. `start + size - 1`. draw_cond: for training. decode:
    samples `[B, ...]` to uint8 images.
    """

    name: str
    model_fn: ModelFn
    params: Params
    solver: Solver
    shape: tuple[int, ...]
    cond: Callable[[int, int], Cond]
    draw_cond: Callable[[Array, int], Cond]
    decode: Callable[[Array], np.ndarray]

    def noise(self, seed: int, start: int, size: int) -> Array:
        """Each sample's own, whatever the batch."""
        keys = jax.vmap(lambda n: jax.random.fold_in(jax.random.key(seed), n))(jnp.arange(start, start + size))
        return jax.vmap(lambda key: jax.random.normal(key, self.shape))(keys)


def load(config: Images) -> Subject:
    """The folder's network, autoencoder and scheduler."""
    pipeline = diffusers.load_pipeline(config.model, dtype=jnp.dtype(config.dtype))
    denoiser = pipeline.denoiser
    if denoiser.sample_shape is None:
        raise ValueError(f"{config.model / 'unet' / 'config.json'} has no sample_size; add the latents' height")
    model_fn: Any = denoiser.model_fn
    if isinstance(config, StableDiffusion):
        prompts, negative = _texts(config)
        pairs = guidance.prompts(prompts, negative)
        model_fn = guidance.prompt_guided(model_fn, config.guidance)
        draw_cond: Any = Drawn(pairs)

        def cond(start: int, size: int) -> Cond:
            index = np.arange(start, start + size) % len(prompts)
            return jax.tree.map(lambda leaf: leaf[index], pairs)
    else:
        known = denoiser.config.get("num_class_embeds") or 0
        # One class more than there are: the null label.
        classes = known - 1 if known > 1 else 0
        draw_cond = Labels(classes)
        if config.guidance != 1.0:
            if not classes:
                raise ValueError(f"{config.model} has no classes to be guided by; leave --guidance out")
            model_fn = guidance.classifier_free(model_fn, config.guidance, null_cond=classes)

        def cond(start: int, size: int) -> Cond:
            return jnp.arange(start, start + size) % classes if classes else None

    return Subject(
        name=config.model.name,
        model_fn=model_fn,
        params=denoiser.params,
        solver=pipeline.scheduler.solver(config.steps),
        shape=denoiser.sample_shape,
        cond=cond,
        draw_cond=draw_cond,
        decode=_decoder(pipeline),
    )


def _decoder(pipeline: diffusers.Pipeline) -> Callable[[Array], np.ndarray]:
    """To the 0..255 of PNG."""

    @jax.jit
    def images(x: Array) -> Array:
        x = x if pipeline.autoencoder is None else pipeline.autoencoder.decode(x)
        return jnp.clip(jnp.round(127.5 * (x.astype(jnp.float32) + 1.0)), 0.0, 255.0).astype(jnp.uint8)

    return lambda x: np.asarray(images(x))


def _texts(config: StableDiffusion) -> tuple[Array, Array]:
    """Embeddings of the prompts `[N, L, D]` and of the negative prompt `[1, L, D]`."""
    path = config.prompts
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give --prompts a text file with one prompt a line, or an .npy file")
    if path.suffix == ".npy":
        if Path(config.negative).suffix != ".npy":
            raise ValueError(
                "prompts that come as embeddings need a negative one that does: the embedding of '' is plain guidance; "
                "give its file with --negative FILE.npy"
            )
        return diffusers.load_embeddings(path), diffusers.load_embeddings(config.negative)
    lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    if not lines:
        raise ValueError(f"{path} holds no prompts; write one a line")
    texts = diffusers.text_embeddings([*lines, config.negative], config.model)
    return texts[:-1], texts[-1:]
