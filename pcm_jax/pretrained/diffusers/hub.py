"""Names of the hub, for those who ask for them."""

from __future__ import annotations

from pathlib import Path

from pcm_jax.pretrained.diffusers.text import optional


def snapshot(name: str, revision: str | None = None) -> Path:
    """Download a model of the hub with the user's `huggingface_hub`; returns its folder.

    Configurations, safetensors files and tokenizers alone; pickles stay there. Nothing else in this package downloads.

    Args:
        name: such as "CompVis/ldm-celebahq-256".
        revision: a branch, tag or commit.

    Raises:
        ImportError: `huggingface_hub` is not installed.
    """
    hub = optional("huggingface_hub", "names of the hub", "or download the folder yourself and pass its path")
    patterns = ["*.json", "*.safetensors", "*.txt", "*.model"]
    return Path(hub.snapshot_download(name, revision=revision, allow_patterns=patterns))
