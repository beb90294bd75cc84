"""Classifier-free guidance as a model function: one network call with twice the rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.types import Array, Cond, ModelFn, Params, is_shared, rows_of

Null = int | float | tuple[tuple[str, int | float], ...]
"""What "no condition" is, hashable: see `classifier_free`."""


def _guide(model_fn: ModelFn, scale: float, params: Params, x: Array, t: Array, null: Cond, given: Cond) -> Array:
    """u + scale (c - u), u under `null` and c under `given`. Parts that are one object in both are not doubled."""
    pairs = [jax.tree.leaves(cond, is_leaf=is_shared) for cond in (null, given)]
    if any(is_shared(first) and first is not second for first, second in zip(*pairs, strict=True)):
        # One call cannot see two values of what has no batch axis; vmap gives it one that each half reads its own of.
        axes = jax.tree.map(lambda first, second: None if first is second else 0, null, given, is_leaf=is_shared)
        both = jax.tree.map(lambda *conds: _join(jnp.stack, *conds), null, given, is_leaf=is_shared)
        without, within = jax.vmap(model_fn, in_axes=(None, None, None, axes))(params, x, t, both)
    else:
        both = jax.tree.map(lambda *conds: _join(jnp.concatenate, *conds), null, given, is_leaf=is_shared)
        out = model_fn(params, jnp.concatenate([x, x]), jnp.concatenate([t, t]), both)
        without, within = jnp.split(out, 2)
    return without + scale * (within - without)


def _join(how: Callable[[list[Array]], Array], null: Any, given: Any) -> Any:
    if is_shared(given):
        return given if null is given else jax.tree.map(lambda *leaves: how(list(leaves)), null, given)
    return how([null, given])


@dataclasses.dataclass(frozen=True)
class ClassifierFree:
    r"""u + s (c - u), u the prediction under the null condition, c under `cond`, in one call on twice the rows."""

    model_fn: ModelFn
    scale: float
    null_cond: Null

    @property
    def rows(self) -> int:
        """Network rows of one evaluation, which samplers count."""
        return 2 * rows_of(self.model_fn)

    def __call__(self, params: Params, x: Array, t: Array, cond: Cond) -> Array:
        if cond is None:
            raise ValueError("classifier-free guidance needs cond; without one call the network itself")
        return _guide(self.model_fn, self.scale, params, x, t, self._null_like(cond), cond)

    def _null_like(self, cond: Cond) -> Cond:
        null = self.null_cond
        if isinstance(null, tuple):
            nulls = dict(null)
            left = set(cond) ^ set(nulls) if isinstance(cond, Mapping) else set(nulls)
            if any(name in nulls or not is_shared(cond[name]) for name in left):
                raise ValueError(
                    f"null_cond has the keys {sorted(nulls)}; cond must be a mapping with the same keys, beside Shared "
                    "parts that both predictions see"
                )
            return {name: part if name in left else _filled(part, nulls[name]) for name, part in cond.items()}
        return _filled(cond, null)


def _filled(cond: Cond, number: int | float) -> Cond:
    return jax.tree.map(lambda leaf: jnp.full_like(leaf, number), cond)


def classifier_free(model_fn: ModelFn, scale: float, null_cond: int | float | Mapping[str, Any]) -> ClassifierFree:
    r"""Guided model_fn: u + scale (c - u).

    Args:
        model_fn: conditional network, trained with label dropout.
        scale: 0 is the unconditional model, 1 the conditional one, above 1 exaggerates the condition. The paper's w
            is scale - 1.
        null_cond: what "no condition" is: a number that fills every leaf of cond (a network's null label is its
            num_classes), or one number for each key of a cond mapping, of which `Shared` parts may be left out: they
            are the same in both predictions. Where it is no number, as for texts, take `prompt_guided`.

    Returns:
        A hashable model_fn; equal arguments give equal ones, so samplers compile once.

    Reference: arXiv 2207.12598, equation 6.
    """
    _check_guide(model_fn, scale)
    for value in null_cond.values() if isinstance(null_cond, Mapping) else (null_cond,):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not np.isfinite(value):
            raise ValueError(
                f"null_cond must be a number, or a number for each key of cond, got {checks.shown(value)}; where the "
                "null condition is an array, take prompt_guided"
            )
    frozen: Null = tuple(sorted(null_cond.items())) if isinstance(null_cond, Mapping) else null_cond
    return ClassifierFree(model_fn, float(scale), frozen)


def _check_guide(model_fn: Any, scale: Any) -> None:
    checks.function("model_fn", model_fn, "(params, x, t, cond) -> prediction")
    checks.number("scale", scale, hint="1 is the conditional model")


def guidance_scale(model_fn: ModelFn) -> float | None:
    """Of `classifier_free`; None for a model without it."""
    return model_fn.scale if isinstance(model_fn, ClassifierFree) else None


@dataclasses.dataclass(frozen=True)
class PromptGuided:
    r"""u + s (c - u), u the prediction under cond["negative"], c under cond["prompt"]."""

    model_fn: ModelFn
    scale: float

    @property
    def rows(self) -> int:
        """Network rows of one evaluation, which samplers count."""
        return 2 * rows_of(self.model_fn)

    def __call__(self, params: Params, x: Array, t: Array, cond: Cond) -> Array:
        if not isinstance(cond, Mapping) or set(cond) != {"prompt", "negative"}:
            raise ValueError("this guidance needs cond={'prompt': .., 'negative': ..}; make it with guidance.prompts")
        return _guide(self.model_fn, self.scale, params, x, t, cond["negative"], cond["prompt"])


def prompt_guided(model_fn: ModelFn, scale: float) -> PromptGuided:
    r"""Guided model_fn whose null condition comes with every sample: u + scale (c - u).

    Args:
        model_fn: conditional network, such as Stable Diffusion's UNet.
        scale: as for `classifier_free`; Stable Diffusion's usual one is 7.5.

    Returns:
        A hashable model_fn that takes `prompts(..)` as cond; other prompts do not compile again.

    Example:
        texts = diffusers.text_embeddings(["a cat", "a dog"], folder)
        cond = guidance.prompts(texts, diffusers.text_embeddings("blurry", folder))
        pcm_jax.sample_picard(guidance.prompt_guided(model.model_fn, 7.5), model.params, noise, solver, cond=cond)
    """
    _check_guide(model_fn, scale)
    return PromptGuided(model_fn, float(scale))


def prompts(prompt: Cond, negative: Cond) -> dict[str, Cond]:
    """The cond of `prompt_guided`.

    Args:
        prompt: a network's condition for every sample, leaves `[B, ...]`, or a `Shared` one for all.
        negative: what to move away from, of the same structure; leaves `[B, ...]`, or `[1, ...]` for all samples (the
            embedding of "" is plain guidance).

    Raises:
        ValueError: another structure or shape.
    """
    for leaf in jax.tree.leaves((prompt, negative)):
        if not hasattr(leaf, "shape") or getattr(leaf.dtype, "kind", "") in "OSU":
            raise ValueError(
                f"prompt and negative must be arrays [B, ...], got {checks.shown(leaf)}; texts become arrays by "
                "pcm_jax.pretrained.diffusers.text_embeddings(texts, folder)"
            )
    structure: Any = jax.tree.structure(prompt)
    if structure != jax.tree.structure(negative):
        raise ValueError("prompt and negative must have the same structure, such as two arrays [B, L, D]")

    def like(given: Any, null: Any) -> Array:
        if not null.shape or null.shape[1:] != given.shape[1:] or null.shape[0] not in (1, given.shape[0]):
            raise ValueError(
                f"negative has shape {tuple(null.shape)} where prompt has {tuple(given.shape)}; give one row for each "
                "sample, or one for all"
            )
        return jnp.broadcast_to(null, given.shape).astype(given.dtype)

    return {"prompt": prompt, "negative": jax.tree.map(like, prompt, negative)}
