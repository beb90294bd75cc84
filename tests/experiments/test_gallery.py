"""The gallery: drawn, put together, and opened in a browser."""

import io
import json
import re
import shutil
import subprocess

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from experiments.common.figures import RESULTS
from experiments.gallery import page
from experiments.gallery.sprites import Draw, run_draw
from experiments.pcm.study import GUESS, METHODS
from experiments.site import look

pytestmark = pytest.mark.slow


def silent():
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("gallery")
    run_draw(Draw(solver="DDIM-50", images=2, rounds=2, results=where), silent())
    for name in ("pcm_study_digits.json", "figures.json", "robots.md"):
        shutil.copy(RESULTS / name, where)
    return where


@pytest.fixture(scope="module")
def written(folder):
    return page.run_page(page.Page(folder, folder / "gallery.html"), silent())


def opened(path, tmp_path, fragment=""):
    """The page's DOM after its script ran, from a browser that may not use the network."""
    browser = look.browser()
    if browser is None:
        pytest.skip(f"no browser here; install one of {', '.join(look.BROWSERS)}")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run(
        [browser, *flags, f"file://{path}{fragment}"], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_sprites_hold_every_round_of_every_method(folder):
    about = json.loads((folder / "gallery_digits.json").read_text())
    height, width = about["line"]
    picture = np.asarray(PIL.Image.open(folder / about["picture"]))
    assert about["rounds"] == 2 and picture.shape[:2] == (height * (1 + 2 * len(about["errors"])), width)
    lines = picture.reshape(-1, height, width)
    assert all(len(errors) == 2 for errors in about["errors"].values())
    assert about["errors"][GUESS][1] < about["errors"]["Picard + secant"][1], "the prior is the first guess"
    assert np.abs(lines[1].astype(int) - lines[0]).mean() > np.abs(lines[-1].astype(int) - lines[0]).mean()


def test_the_page_needs_nothing_else(written):
    text = written.read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text) and "@import" not in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)), "two drawings share an id"


def test_a_browser_shows_it(written, tmp_path):
    dom = opened(written, tmp_path, "#1")
    assert 'data-shown="1"' in dom and f'data-strips="{len(METHODS)}"' in dom
    assert dom.count('class="strip"') == 1 + len(METHODS) and "Every headline number" in dom and "<svg" in dom
    assert re.search(r'class="error">\d', dom), "the error of the chosen round is written beside its strip"


def test_the_shipped_page_opens(tmp_path):
    dom = opened(RESULTS / "gallery.html", tmp_path)
    models = len(list(RESULTS.glob("gallery_*.json")))
    assert models and dom.count("<section>") == models and 'data-shown="2"' in dom


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"holds no gallery_\*\.json; draw samples first"):
        page.run_page(page.Page(tmp_path, tmp_path / "page.html"), silent())
    with pytest.raises(ValueError, match="there is no model 'cats'; choose one of"):
        run_draw(Draw(model="cats", results=tmp_path), silent())


def test_markdown():
    text = page.markdown("# Title\n\nsome `code` < here\n\n| a | b |\n|---|---:|\n| 1 | 2 |")
    assert text == (
        "<h2>Title</h2>\n<p>some <code>code</code> &lt; here</p>\n<table><thead><tr><th>a</th><th>b</th></tr></thead>"
        "<tbody><tr><td>1</td><td>2</td></tr></tbody></table>"
    )
