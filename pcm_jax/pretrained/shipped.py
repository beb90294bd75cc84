"""What a wheel holds of the files in this folder, and where the others are."""

from __future__ import annotations

from pathlib import Path

ROOM = Path(__file__).parent


def elsewhere(directory: Path) -> str:
    """The end of an error about a name that is not in `directory`."""
    if directory.parent != ROOM:
        return ""
    return (
        "; an installed package holds digits and pusht alone, a clone of the repository the others: "
        f"directory='<clone>/pcm_jax/pretrained/{directory.name}'"
    )
