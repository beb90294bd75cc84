"""The built site in a headless browser at the widths of a phone and of a desk: does a page scroll sideways?"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console

from experiments.common.figures import ROOT
from experiments.site.check import SITE

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars")
NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND"
MEASURE = """<!doctype html><title>-</title><body style="margin:0"><script>
const pages = {pages}, found = [];
async function look() {{
  for (const width of {widths}) for (const page of pages) {{
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${{width}}px;height:900px;border:0`;
    await new Promise((done) => {{ frame.onload = done; frame.src = page; document.body.replaceChildren(frame); }});
    await new Promise((done) => setTimeout(done, 30));
    const root = frame.contentDocument.documentElement;
    found.push([page, width, root.scrollWidth, frame.contentDocument.querySelectorAll("#rounds svg").length]);
  }}
  document.title = "done";
  const out = document.createElement("pre");
  out.id = "found"; out.textContent = JSON.stringify(found); document.body.append(out);
}}
look();
</script>"""


@dataclasses.dataclass(frozen=True)
class Look:
    """Measure every page, and photograph some. shots: pages to photograph. out: the folder of the pictures."""

    site: Path = SITE
    widths: tuple[int, ...] = (390, 1280)
    shots: tuple[str, ...] = ("index.html", "how.html")
    out: Path = ROOT / "experiments" / "out" / "site"


def browser() -> str | None:
    """The first one that is installed."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def measure(site: Path, widths: tuple[int, ...], program: str) -> list[tuple[str, int, int, int]]:
    """(page, width given, width needed, drawings of the figure of rounds) of every page, without a network."""
    pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html") if "_downloads" not in path.parts)
    with tempfile.TemporaryDirectory() as profile:
        probe = site / "_measure.html"
        probe.write_text(MEASURE.format(pages=json.dumps(pages), widths=json.dumps(widths)))
        try:
            command = [program, *FLAGS, NETWORK, f"--user-data-dir={profile}", "--allow-file-access-from-files"]
            command += ["--virtual-time-budget=120000", "--dump-dom", f"file://{probe}"]
            dom = subprocess.run(command, capture_output=True, text=True, timeout=400, check=True).stdout
        finally:
            probe.unlink()
    found = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    if found is None:
        raise RuntimeError("the browser ended before every page was measured")
    return [(page, width, needed, drawings) for page, width, needed, drawings in json.loads(found[1])]


def photograph(site: Path, page: str, width: int, height: int, out: Path, program: str) -> None:
    """One page as a PNG; a frame holds it, because a browser's own window is never as narrow as a phone."""
    with tempfile.TemporaryDirectory() as profile:
        frame = site / "_frame.html"
        style = f"width:{width}px;height:{height}px;border:0"
        frame.write_text(f'<!doctype html><body style="margin:0"><iframe src="{page}" style="{style}"></iframe>')
        command = [program, *FLAGS, NETWORK, f"--user-data-dir={profile}", f"--window-size={max(width, 500)},{height}"]
        command += ["--virtual-time-budget=4000", f"--screenshot={out}", f"file://{frame}"]
        try:
            subprocess.run(command, capture_output=True, timeout=120, check=True)
        finally:
            frame.unlink()


def run_look(config: Look, console: Console) -> None:
    """Pictures into `out`; exits with 1 when a page is wider than its window."""
    program = browser()
    if program is None:
        raise SystemExit(f"no browser here; install one of {', '.join(BROWSERS)}")
    config.out.mkdir(parents=True, exist_ok=True)
    for page in config.shots:
        for width in config.widths:
            name = page.removesuffix(".html").replace("/", "-").replace("#", "-")
            photograph(config.site, page, width, 2400, config.out / f"{name}-{width}.png", program)
    measured = measure(config.site, config.widths, program)
    wide = [line for line in measured if line[2] > line[1]]
    for page, width, needed, _ in wide:
        console.print(f"{page} needs {needed} px of {width}", highlight=False)
    if wide:
        raise SystemExit(1)
    console.print(f"{len(measured)} views, none wider than its window; pictures in {config.out}", soft_wrap=True)
