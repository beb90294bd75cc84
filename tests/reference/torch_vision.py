"""PyTorch's side of the import of policies that see images: LeRobot's encoder and denoiser, with its tensor names.

LeRobot brings simulators and cameras along, so this is its architecture (ResNet, arXiv 1512.03385; spatial softmax,
arXiv 1509.06113) written for the test. Features and predictions equal those of LeRobot 0.4.4's own `DiffusionModel`,
which takes these tensors by the same names (ResNet-18 and 34 at full width), to 2e-6.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import random_visions as visions
import torch
import torch_unet1d
from torch import nn
from torch.nn import functional


def norm(channels: int, batch: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if batch else nn.GroupNorm(channels // 16, channels)


class Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int, batch: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), norm(after, batch)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), norm(after, batch)
        self.downsample = None
        if before != after or stride != 1:
            skip = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(skip, norm(after, batch))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        return torch.relu(h + (x if self.downsample is None else self.downsample(x)))


class Pool(nn.Module):
    def __init__(self, channels: int, height: int, width: int, keypoints: int) -> None:
        super().__init__()
        self.nets = nn.Conv2d(channels, keypoints, 1)
        x, y = np.meshgrid(np.linspace(-1.0, 1.0, width), np.linspace(-1.0, 1.0, height))
        self.register_buffer("pos_grid", torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2)).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.nets(x).flatten(2), dim=-1) @ self.pos_grid


class Encoder(nn.Module):
    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__()
        self.crop, self.resize = case["crop"], case["resize"]
        if self.resize and case["ratio"] < 1:
            self.crop = tuple(int(side * case["ratio"]) for side in self.resize)
        batch, before, layers = case["batch_norm"], visions.WIDTH, []
        for level, count in enumerate(case["stages"]):
            after = visions.WIDTH * 2**level
            blocks = [
                Block(before if not i else after, after, 2 if level and not i else 1, batch) for i in range(count)
            ]
            layers.append(nn.Sequential(*blocks))
            before = after
        stem = [nn.Conv2d(3, visions.WIDTH, 7, 2, 3, bias=False), norm(visions.WIDTH, batch), nn.ReLU()]
        self.backbone = nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1), *layers)
        height, width = self.crop or self.resize or next(iter(case["cameras"].values()))[1:]
        shape = self.backbone.eval()(torch.zeros(1, 3, height, width)).shape[1:]
        self.pool = Pool(*shape, case["keypoints"])
        self.out = nn.Linear(2 * case["keypoints"], 2 * case["keypoints"])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.resize:
            x = functional.interpolate(x, self.resize, mode="bilinear", antialias=True)
        if self.crop:
            (height, width), (rows, columns) = x.shape[2:], self.crop
            top, left = round((height - rows) / 2), round((width - columns) / 2)
            x = x[:, :, top : top + rows, left : left + columns]
        return torch.relu(self.out(self.pool(self.backbone(x)).flatten(1)))


class Diffusion(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, case = name, visions.CASES[name]
        count = len(case["cameras"])
        self.separate = case["separate"]
        self.rgb_encoder = nn.ModuleList(Encoder(case) for _ in range(count)) if self.separate else Encoder(case)
        self.unet = torch_unet1d.ConditionalUnet1D(visions.UNET | {"cond": visions.STEPS * visions.features(name)})

    def features(self, seen: dict[str, torch.Tensor]) -> torch.Tensor:
        """[B, STEPS, F] of normalised observations, images [B, STEPS, C, H, W]."""
        images = [seen[key].flatten(0, 1) for key in visions.CASES[self.name]["cameras"]]
        encoders = self.rgb_encoder if self.separate else [self.rgb_encoder] * len(images)
        found = [encoder(image) for encoder, image in zip(encoders, images, strict=True)]
        found = torch.cat(found, dim=-1).unflatten(0, (visions.BATCH, visions.STEPS))
        parts = [seen["observation.state"], found]
        if "observation.environment_state" in seen:
            parts.append(seen["observation.environment_state"])
        return torch.cat(parts, dim=-1)


class Policy(nn.Module):
    """`diffusion.` before every tensor, as in LeRobot's files."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.diffusion = Diffusion(name)


def normalised(name: str) -> dict[str, torch.Tensor]:
    """The case's observations in LeRobot's units and order of axes."""
    case, statistics, found = visions.CASES[name], visions.statistics(name), {}
    for key, value in visions.inputs(name)[0].items():
        x = torch.from_numpy(value)
        image = key in case["cameras"]
        x = x.permute(0, 1, 4, 2, 3) if image else x
        low, high, mean, std = (torch.from_numpy(statistics[f"{key}.{each}"]) for each in ("min", "max", "mean", "std"))
        if case["visual" if image else "numbers"] == "MEAN_STD":
            found[key] = (x - mean) / (std + 1e-8)
        else:
            found[key] = (x - low) / (high - low + 1e-8) * 2 - 1
    return found


def outputs(name: str, policy: Policy) -> dict[str, np.ndarray]:
    """The conditioning, and the denoiser's prediction under it."""
    features = policy.diffusion.features(normalised(name))
    _, x, t = visions.inputs(name)
    out = policy.diffusion.unet(torch.from_numpy(x), torch.from_numpy(t), features.flatten(1))
    return {"features": features.numpy(), "out": out.numpy()}
