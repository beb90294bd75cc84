"""The page: a template, and what the results' JSON and pictures say."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
import re
import string
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.common import plots
from experiments.common.figures import RESULTS
from experiments.pcm.study import VISUAL
from experiments.site import readme
from pcm_jax.files import write_text
from pcm_jax.pretrained import load

TEMPLATE = Path(__file__).parent / "template.html"
TABLES = {
    "pcm_study_digits": "Digits: error after each round",
    "pcm_study_fashion": "Fashion-MNIST: error after each round",
    "fd_fashion": "Fashion-MNIST: Frechet distance after each round",
    "fd_emoji32": "Emoji: Frechet distance after each round",
    "paper_ldm_celeba": "Latent emoji: the paper's image table",
    "pcm_ablation": "What each part of the recipe is worth",
    "demo": "The demo",
    "figures": "Every headline number",
}
"""Results that `experiments.site.readme` can render, in the page's order."""
PICTURES = {
    "emoji32_samples": "Emoji from the shipped model",
    "emoji32_latent_samples": "Emoji from the latent model",
    "fd_emoji32": "Emoji: Frechet distance against rounds",
    "paper_ldm_celeba": "Latent emoji: every method after each round",
    "paper_ldm_celeba_fd": "Latent emoji: Frechet distance against rounds",
    "robots_latency": "Robots: latency of a decision",
}


@dataclasses.dataclass(frozen=True)
class Page:
    """Write gallery.html from what is in `results`. out: the file."""

    results: Path = RESULTS
    out: Path = RESULTS / "gallery.html"


def run_page(config: Page, console: Console) -> Path:
    """One file that needs no other and no network."""
    results = config.results
    drawn = sorted(results.glob("gallery_*.json"))
    if not drawn:
        raise ValueError(
            f"{results} holds no gallery_*.json; draw samples first: python -m experiments.gallery draw --model digits"
        )
    samples = {path.stem.removeprefix("gallery_"): _samples(path) for path in drawn}
    tables = {title: _table(name, results) for name, title in TABLES.items() if (results / f"{name}.json").exists()}
    figures = {title: _image(results / f"{name}.png") for name, title in PICTURES.items() if _there(results, name)}
    convergence = {path.stem: _convergence(path) for path in sorted(results.glob("pcm_study_*.json"))}
    robots = results / "robots.md"
    page = string.Template(TEMPLATE.read_text()).substitute(
        samples=json.dumps(samples),
        convergence="\n".join(convergence.values()),
        figures="\n".join(f"<figure>{tag}<figcaption>{title}</figcaption></figure>" for title, tag in figures.items()),
        tables="\n".join(_fold(title, table) for title, table in tables.items()),
        robots=markdown(robots.read_text()) if robots.exists() else "",
    )
    write_text(config.out, page)
    console.print(f"wrote {config.out} ({config.out.stat().st_size / 1e6:.1f} MB)")
    return config.out


def _there(results: Path, name: str) -> bool:
    return (results / f"{name}.png").exists()


def _samples(path: Path) -> dict[str, Any]:
    """What the slider needs: the picture, its lines, and each method's errors."""
    drawn = json.loads(path.read_text())
    kept = {name: drawn[name] for name in ("line", "rounds", "errors", "device", "command")}
    return kept | {"solver": drawn["config"]["solver"], "picture": _source(path.with_name(drawn["picture"]))}


def _source(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _image(path: Path) -> str:
    return f'<img src="{_source(path)}" alt="{html.escape(path.stem)}">'


def _table(name: str, results: Path) -> str:
    return markdown(readme.RENDERERS[name](json.loads((results / f"{name}.json").read_text())) or "")


def _fold(title: str, body: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary><div class='wide'>{body}</div></details>"


def _convergence(path: Path) -> str:
    """Error curves of a study, drawn anew as SVG."""
    result = json.loads(path.read_text())
    model = result["config"]["model"]
    curves = [
        {"solver": solver, "method": method, "error": error}
        for solver, numbers in result["summary"].items()
        for method, error in numbers["error"].items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        drawing = Path(folder) / "curves.svg"
        plots.errors(curves, drawing, exact=VISUAL * load(model).data_std)
        svg = drawing.read_text()
    # Ids of glyphs and clips repeat from one drawing to the next.
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{model}-", svg[svg.index("<svg") :])
    return f"<figure>{svg}<figcaption>{html.escape(model)}</figcaption></figure>"


def markdown(text: str) -> str:
    """Headings, paragraphs and tables, which is all that the results' Markdown has."""
    out = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if lines[0].startswith("#"):
            level = len(lines[0]) - len(lines[0].lstrip("#"))
            out.append(f"<h{level + 1}>{_inline(lines[0].strip('# '))}</h{level + 1}>")
        elif lines[0].startswith("|"):
            rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
            out.append(_html_table(rows))
        elif picture := re.fullmatch(r"!\[.*\]\(.*\)", block):
            del picture  # pictures come by themselves
        else:
            out.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "\n".join(out)


def _html_table(rows: list[list[str]]) -> str:
    head, body = rows[0], rows[2:]
    cells = "".join(f"<th>{_inline(cell)}</th>" for cell in head)
    lines = "".join("<tr>" + "".join(f"<td>{_inline(cell)}</td>" for cell in row) + "</tr>" for row in body)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"


def _inline(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))
