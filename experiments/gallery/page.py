"""The page: a template, and a section for each `gallery_*.json` with its pictures inside."""

from __future__ import annotations

import dataclasses
import html
import json
import string
from pathlib import Path

from rich.console import Console

from experiments.common.figures import RESULTS
from experiments.gallery.sections import NAMES, Section
from pcm_jax.files import write_text

TEMPLATE = Path(__file__).parent / "template.html"


@dataclasses.dataclass(frozen=True)
class Page:
    """Write gallery.html from what is in `results`. out: the file."""

    results: Path = RESULTS
    out: Path = RESULTS / "gallery.html"


def run_page(config: Page, console: Console) -> Path:
    """One file that needs no other and no network."""
    there = [name for name in NAMES if (config.results / f"gallery_{name}.json").exists()]
    if not there:
        raise ValueError(
            f"{config.results} holds no gallery_*.json; draw samples first: python -m experiments.gallery draw --model "
            "digits"
        )
    sections = [Section(name, config.results) for name in there]
    page = string.Template(TEMPLATE.read_text()).substitute(
        links=" ".join(f'<a href="#{one.name}">{html.escape(one.title)}</a>' for one in sections),
        sections="\n".join(one.html() for one in sections),
        sources="\n".join(_source(one) for one in sections),
    )
    write_text(config.out, page)
    console.print(f"wrote {config.out} ({config.out.stat().st_size / 1e6:.1f} MB)")
    return config.out


def _source(section: Section) -> str:
    """Which command made a section's numbers and pictures."""
    keys = ("command", "device", "commit", "date")
    command, *where = (html.escape(json.dumps(section.result[key]).strip('"')) for key in keys)
    return (
        f"<li>{html.escape(section.title)}: <code>{command}</code>, {where[0]}, commit {where[1]}, {where[2][:10]}</li>"
    )
