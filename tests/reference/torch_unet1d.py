"""PyTorch's side of the import of policies: a `ConditionalUnet1D` with the tensor names of Diffusion Policy or LeRobot.

Neither code is a package that installs beside ours, so this is the network of the paper (arXiv 2303.04137) written for
the test; its outputs equal those of LeRobot 0.3.3 and real-stanford/diffusion_policy with the same weights, bit by bit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn


class Times(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        half = self.size // 2
        rates = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))
        angles = t[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Conv(nn.Module):
    def __init__(self, before: int, after: int, taps: int, groups: int = 8) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv1d(before, after, taps, padding=taps // 2), nn.GroupNorm(groups, after), nn.Mish()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class Wrapped(nn.Module):
    """A layer that Diffusion Policy keeps as `.conv`."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Residual(nn.Module):
    def __init__(self, before: int, after: int, cond: int, case: dict[str, Any]) -> None:
        super().__init__()
        taps, groups = case["kernel_size"], case["n_groups"]
        convs = [Conv(before, after, taps, groups), Conv(after, after, taps, groups)]
        if case["layout"] == "LeRobot":
            self.conv1, self.conv2 = convs
        else:
            self.blocks = nn.ModuleList(convs)
        self.scaled, self.after = case["film_scale"], after
        self.cond_encoder = nn.Sequential(nn.Mish(), nn.Linear(cond, (1 + self.scaled) * after))
        self.residual_conv = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        first, second = (self.conv1, self.conv2) if hasattr(self, "conv1") else self.blocks
        film = self.cond_encoder(cond)[..., None]
        h = first(x)
        h = film[:, : self.after] * h + film[:, self.after :] if self.scaled else h + film
        return second(h) + self.residual_conv(x)


class ConditionalUnet1D(nn.Module):
    """case: see `random_policies.CASES`."""

    def __init__(self, case: dict[str, Any]) -> None:
        super().__init__()
        widths, embed = case["channels"], case["embed"]
        cond = embed + case["cond"]
        keep = (lambda conv: conv) if case["layout"] == "LeRobot" else Wrapped
        self.diffusion_step_encoder = nn.Sequential(
            Times(embed), nn.Linear(embed, 4 * embed), nn.Mish(), nn.Linear(4 * embed, embed)
        )
        self.down_modules, self.up_modules = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            before = widths[level - 1] if level else case["actions"]
            last = nn.Identity() if level == len(widths) - 1 else keep(nn.Conv1d(width, width, 3, 2, 1))
            pair = [Residual(before, width, cond, case), Residual(width, width, cond, case)]
            self.down_modules.append(nn.ModuleList([*pair, last]))
        self.mid_modules = nn.ModuleList([Residual(widths[-1], widths[-1], cond, case) for _ in range(2)])
        for level in range(len(widths) - 1, 0, -1):
            width, after = widths[level], widths[level - 1]
            pair = [Residual(2 * width, after, cond, case), Residual(after, after, cond, case)]
            self.up_modules.append(nn.ModuleList([*pair, keep(nn.ConvTranspose1d(after, after, 4, 2, 1))]))
        self.final_conv = nn.Sequential(
            Conv(widths[0], widths[0], case["kernel_size"]), nn.Conv1d(widths[0], case["actions"], 1)
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | None) -> torch.Tensor:
        features = self.diffusion_step_encoder(t)
        if cond is not None:
            features = torch.cat([features, cond], dim=-1)
        h, skips = x.transpose(1, 2), []
        for first, second, down in self.down_modules:
            h = second(first(h, features), features)
            skips.append(h)
            h = down(h)
        for block in self.mid_modules:
            h = block(h, features)
        for first, second, up in self.up_modules:
            h = up(second(first(torch.cat([h, skips.pop()], dim=1), features), features))
        return self.final_conv(h).transpose(1, 2)
