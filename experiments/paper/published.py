"""What the paper printed (So, Shin, Jang, Park, CVPR 2025, arXiv 2503.19731); never computed here."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table. value: FID, or what `text` says. seconds: on the authors' machine."""

    method: str
    rounds: int | None
    fid: float | None = None
    seconds: float | None = None
    speedup: float | None = None
    text: str = ""


ROWS: dict[str, tuple[Row, ...]] = {
    "ldm-celeba": (
        Row("sequential", 18, 36.09, 2.83, 1.0),
        Row("Picard", 6, 36.19, 1.34, 2.11),
        Row("PCM", 6, 36.67, 1.87, 1.51),
        Row("PCM-LoRA", 6, 35.97, 1.34, 2.11),
        Row("sequential", 2, 366.92),
        Row("Picard", 2, 257.83),
        Row("PCM-LoRA", 2, 67.74),
    ),
    "stable-diffusion": (
        Row("Picard", 9, text="the CLIP score that PCM-LoRA exceeds with 8 rounds"),
        Row("PCM-LoRA", 8, text="a higher CLIP score than Picard's after 9 rounds"),
    ),
    "robots": (
        Row("sequential", None, speedup=1.0),
        Row("Picard", None, speedup=1.53, text="2.71 / 1.77"),
        Row("PCM", None, speedup=2.71, text="the largest gain, over image generation and robot control"),
    ),
}
