"""What has to hold of the built site: public names described, links and pictures there, nothing from elsewhere."""

from __future__ import annotations

import dataclasses
import html.parser
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rich.console import Console

from experiments.common.figures import RESULTS, ROOT, record
from experiments.site import public

SITE = ROOT / "docs" / "_build" / "html"
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""What a browser fetches by itself. Links that a reader may follow are <a>."""


@dataclasses.dataclass(frozen=True)
class Check:
    """Look at the site that `make docs` built. record: set readme.lines and docs.public_names_missing."""

    site: Path = SITE
    record: bool = False
    results: Path = RESULTS


class _Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.no_alternative: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.ids.add(str(values["id"]))
        if tag == "a" and values.get("href"):
            self.links.append(str(values["href"]))
        if tag == "img" and not values.get("alt"):
            self.no_alternative.append(str(values.get("src")))
        target = values.get(LOADED.get(tag, ""))
        if target and not (tag == "link" and values.get("rel") in ("canonical", "author")):
            self.loaded.append(target)


def problems(site: Path) -> list[str]:
    """Broken links and anchors, pictures without a description, and whatever the pages load from another host."""
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        return [f"{site} holds no pages: run make docs"]
    found = []
    for path, page in pages.items():
        where = path.relative_to(site)
        found += [f"{where}: loads {target}" for target in page.loaded if urlsplit(target).netloc]
        found += [f"{where}: the picture {source} has no alt text" for source in page.no_alternative]
        for link in {*page.links, *page.loaded}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                found.append(f"{where}: {link} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                found.append(f"{where}: {link} has no such place")
    for style in site.rglob("*.css"):
        found += [
            f"{style.name}: loads {url}" for url in re.findall(r"url\(['\"]?((?:https?:)?//[^)]+)", style.read_text())
        ]
    return found


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text())
    return page


def run_check(config: Check, console: Console) -> None:
    """Say what is wrong and exit with 1, or say that nothing is."""
    wrong = problems(config.site)
    inventory = config.site / "objects.inv"
    lost = public.missing(public.described(inventory) if inventory.exists() else [])
    lines = len((ROOT / "README.md").read_text().splitlines())
    if config.record:
        command = "make docs && python -m experiments.site check --record"
        record("docs.public_names_missing", len(lost), command=command, results=config.results)
        record("readme.lines", lines, command=command, results=config.results)
    for line in [*wrong, *(f"no page describes {name}" for name in lost)]:
        console.print(line, highlight=False)
    if wrong or lost:
        raise SystemExit(1)
    pages = len(list(config.site.rglob("*.html")))
    console.print(
        f"{pages} pages, {len(public.public())} public names, every link and picture there: {config.site}",
        soft_wrap=True,
    )
