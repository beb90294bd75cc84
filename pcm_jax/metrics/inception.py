"""Inception's features, on which FID is defined; for those who have its weights.

The network of FID (arXiv 1706.08500) is TensorFlow's Inception of 2015 and differs from later ones: averages leave
padding out, and the last block takes a maximum. Weights: `pt_inception-2015-12-05-6726825d.pth` of the releases of
mseitzer/pytorch-fid, 91 MB, whose preprocessing this is, so that numbers are comparable with published ones.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcm_jax.files import reads
from pcm_jax.metrics.features import Features, batched
from pcm_jax.metrics.torch_legacy import load_state_dict
from pcm_jax.types import Array

DIMENSIONS = 2048
_SIZE = 299
_EPSILON = 1e-3
_A = ("branch1x1", "branch5x5_1", "branch5x5_2", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3", "branch_pool")
_B = ("branch3x3", "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
_C = ("branch1x1", *(f"branch7x7_{n}" for n in (1, 2, 3)), *(f"branch7x7dbl_{n}" for n in range(1, 6)), "branch_pool")
_D = ("branch3x3_1", "branch3x3_2", *(f"branch7x7x3_{n}" for n in range(1, 5)))
_E = (
    "branch1x1", "branch3x3_1", "branch3x3_2a", "branch3x3_2b",
    "branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3a", "branch3x3dbl_3b", "branch_pool",
)  # fmt: skip
_BLOCKS = {"5b": _A, "5c": _A, "5d": _A, "6a": _B, "6b": _C, "6c": _C, "6d": _C, "6e": _C, "7a": _D, "7b": _E, "7c": _E}
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")

Weights = dict[str, Array]


@reads("path")
def load_inception(path: str | Path, batch_size: int = 32) -> Features:
    """Inception's 2048 features of images; `frechet_distance` between their `Moments` is FID.

    Args:
        path: the `.pth` file, read without unpickling it.
        batch_size: images evaluated at once; a last, smaller batch is padded, so that nothing compiles again.

    Returns:
        A function of uint8 images `[N, H, W, 1 or 3]`, 0..255, as of `load_features`. They are resized to 299 x 299
        (bilinear, not antialiased) and scaled to -1..1, grey ones repeated into three channels.

    Raises:
        ValueError: no such file, or one that holds another network.
    """
    return batched(_network, folded(load_state_dict(path), str(path)), batch_size)


def folded(state: Mapping[str, np.ndarray], where: str) -> Weights:
    """Convolutions `[kh, kw, in, out]` with the batch norm behind them folded in: "name" and "name/bias"."""
    weights: Weights = {}
    try:
        for name in (*_STEM, *(f"Mixed_{block}.{branch}" for block, names in _BLOCKS.items() for branch in names)):
            norm = {part: state[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
            scale = norm["weight"] / np.sqrt(norm["running_var"] + _EPSILON)
            kernel = state[f"{name}.conv.weight"] * scale[:, None, None, None]
            weights[name] = jnp.asarray(kernel.transpose(2, 3, 1, 0))
            weights[f"{name}/bias"] = jnp.asarray(norm["bias"] - norm["running_mean"] * scale)
    except KeyError as error:
        raise ValueError(f"{where} is not FID's Inception: {error} is missing") from error
    # Torchvision's has the same names; the one of FID tells 1008 classes apart.
    if "fc.bias" in state and len(state["fc.bias"]) != 1008:
        raise ValueError(f"{where} is not FID's Inception: it has {len(state['fc.bias'])} classes instead of 1008")
    return weights


@jax.jit
def _network(weights: Weights, images: Array) -> Array:
    x = jnp.broadcast_to(images.astype(jnp.float32) / 255.0, (*images.shape[:-1], 3))
    x = 2.0 * jax.image.resize(x, (x.shape[0], _SIZE, _SIZE, 3), "bilinear", antialias=False) - 1.0
    conv = functools.partial(_convolve, weights)
    x = conv(conv(x, _STEM[0], 2, "VALID"), _STEM[1], 1, "VALID")
    x = _maximum(conv(x, _STEM[2]), 2, "VALID")
    x = _maximum(conv(conv(x, _STEM[3]), _STEM[4], 1, "VALID"), 2, "VALID")
    for block, names in _BLOCKS.items():
        x = _block(functools.partial(_named, weights, block), x, block, names)
    return jnp.mean(x, axis=(1, 2))


def _named(weights: Weights, block: str, x: Array, branch: str, stride: int = 1, padding: str = "SAME") -> Array:
    return _convolve(weights, x, f"Mixed_{block}.{branch}", stride, padding)


def _block(conv: functools.partial[Array], x: Array, block: str, names: tuple[str, ...]) -> Array:
    """The branches side by side; those of E fork once more at their end."""

    def chain(*branches: str) -> Array:
        return functools.reduce(conv, branches, x)

    def fork(h: Array, *branches: str) -> list[Array]:
        return [conv(h, branch) for branch in branches]

    if names in (_B, _D):
        *within, last = names[1:]
        first = conv(x, names[0], 2, "VALID") if names == _B else conv(chain(names[0]), names[1], 2, "VALID")
        within = within if names == _B else within[1:]
        return jnp.concatenate([first, conv(chain(*within), last, 2, "VALID"), _maximum(x, 2, "VALID")], axis=-1)
    pooled = conv(_maximum(x, 1, "SAME") if block == "7c" else _average(x), "branch_pool")
    if names == _E:
        sides = [*fork(chain(names[1]), *names[2:4]), *fork(chain(*names[4:6]), *names[6:8])]
        return jnp.concatenate([chain(names[0]), *sides, pooled], axis=-1)
    split = 3 if names == _A else 4
    return jnp.concatenate([chain(names[0]), chain(*names[1:split]), chain(*names[split:-1]), pooled], axis=-1)


def _convolve(weights: Weights, x: Array, name: str, stride: int = 1, padding: str = "SAME") -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    out = lax.conv_general_dilated(x, weights[name], (stride, stride), padding, dimension_numbers=numbers)
    return jax.nn.relu(out + weights[f"{name}/bias"].reshape(1, 1, 1, -1))


def _maximum(x: Array, stride: int, padding: str) -> Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def _average(x: Array) -> Array:
    """Of 3 x 3, over what lies inside the image alone."""
    window = functools.partial(
        lax.reduce_window, init_value=0.0, computation=lax.add, window_dimensions=(1, 3, 3, 1),
        window_strides=(1, 1, 1, 1), padding="SAME",
    )  # fmt: skip
    return window(x) / window(jnp.ones((1, *x.shape[1:3], 1), x.dtype))
