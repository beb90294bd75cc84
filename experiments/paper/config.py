"""What a run of an image table takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from pcm_jax.pretrained import FOLDERS


@dataclasses.dataclass(frozen=True)
class Images:
    """Sample with every method, and compare the images with real ones after every round.

    model: a folder of diffusers, with model_index.json. data: real images, a dataset of `pcm_jax.data` or a folder of
    image files. steps: of the sampler. rounds: after each of which FD is computed. samples: for every method. batch:
    sampled at once. guidance: scale of classifier-free guidance, 1 is none. adapter: a PCM-LoRA that ships, by
    name, or one in a file that this command or `pretrained.save_adapter` wrote; None trains one. full: also train PCM's
    other form, a whole second network. inception: the weights that make FD the FID; without them it is FD on
    EfficientNet-Lite0 features. dtype: of the network. out: checkpoints, sums, results; a run that was stopped goes on
    from there. distributed: join the other hosts of a pod first. results: where the JSON goes, by default `out`.

    The training's defaults are the paper's: trajectories, epochs, Adam's learning rate, ema_decay. rank is of the LoRA.
    """

    model: Path
    data: str
    steps: int
    rounds: int = 8
    samples: int = 512
    batch: int = 32
    guidance: float = 1.0
    adapter: Path | None = None
    full: bool = True
    inception: Path | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    trajectories: int = 500
    epochs: int = 50
    learning_rate: float = 1e-4
    ema_decay: float = 0.999
    train_batch: int = 10
    rank: int = 16
    heldout: int = 32
    out: Path = Path("experiments/out/paper")
    results: Path | None = None
    distributed: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "rounds", "samples", "batch", "trajectories", "epochs", "train_batch", "heldout"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.samples < 2:
            raise ValueError("FD takes at least 2 samples")
        if self.rounds > self.steps:
            raise ValueError(f"rounds must be at most steps ({self.steps}), got {self.rounds}")
        if self.train_batch > self.trajectories:
            raise ValueError(
                f"train_batch must be at most trajectories ({self.trajectories}), got {self.train_batch}; lower it"
            )

    @property
    def training_steps(self) -> int:
        return max(1, self.trajectories * self.epochs // self.train_batch)


@dataclasses.dataclass(frozen=True)
class LDMCelebA(Images):
    __doc__ = Images.__doc__

    model: Path = FOLDERS / "emoji32-latent"
    data: str = "emoji32"
    steps: int = 18


@dataclasses.dataclass(frozen=True)
class StableDiffusion(Images):
    """As for ldm-celeba, from texts. prompts: a file with one on each line, or their embeddings [N, L, D] as .npy.

    negative: what to move away from, a text, or embeddings [1, L, D] as .npy where prompts are. Without real images
    (data) FD is the distance to the sequential sampler's own samples.
    """

    model: Path = Path("stable-diffusion-v1-5")
    data: str = ""
    steps: int = 50
    guidance: float = 7.5
    rounds: int = 10
    batch: int = 4
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    prompts: Path = Path("prompts.txt")
    negative: str = ""
