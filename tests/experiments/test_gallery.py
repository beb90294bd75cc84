"""The gallery: drawn, put together, and used in a browser by keys alone."""

import io
import json
import re
import shutil

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from experiments.common.figures import RESULTS
from experiments.gallery import charts, page
from experiments.gallery.episodes import Episode, run_episode
from experiments.gallery.follow import TOL, TUNED
from experiments.gallery.sections import NAMES, shown
from experiments.gallery.sprites import Draw, run_draw
from experiments.pcm.study import GUESS
from experiments.robots import environments
from experiments.site import check, devtools, look

SHIPPED = RESULTS / "gallery.html"
LIMIT = 3_000_000
"""Bytes of the page."""


def silent():
    return Console(file=io.StringIO())


def about(name):
    return json.loads((RESULTS / f"gallery_{name}.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("gallery")
    run_draw(Draw(solver="DDIM-50", images=2, rounds=2, results=where), silent())
    for path in (*RESULTS.glob("gallery_pusht*"), RESULTS / "robots_eval_pusht.json"):
        shutil.copy(path, where)
    return where


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    program = look.browser()
    if program is None:
        pytest.skip(f"no browser here; install one of {', '.join(look.BROWSERS)}")
    with devtools.tab(program, tmp_path_factory.mktemp("profile")) as one:
        yield one


@pytest.mark.slow
def test_sprites_hold_every_round_of_every_method(folder):
    result = json.loads((folder / "gallery_digits.json").read_text())
    height, width = result["line"]
    with PIL.Image.open(folder / result["picture"]) as sprites:
        picture = np.asarray(sprites)
    methods = ["Picard", GUESS, TUNED]
    assert [*result["errors"]] == [*result["bounds"]] == [*result["needed"]] == methods
    assert result["rounds"] == 2 and picture.shape[:2] == (height * (1 + 2 * len(methods)), width)
    lines = picture.reshape(-1, height, *picture.shape[1:])
    assert all(len(errors) == 2 for errors in result["errors"].values())
    assert result["errors"][GUESS][1] < result["errors"]["Picard"][1], "the prior is the first guess"
    assert np.abs(lines[1].astype(int) - lines[0]).mean() > np.abs(lines[4].astype(int) - lines[0]).mean()


@pytest.mark.parametrize("name", NAMES)
def test_what_ships_ends_certified_and_below_its_bounds(name):
    result = about(name)
    best = next(method for method in result["errors"] if method not in ("Picard", TUNED))
    assert (best == GUESS) == (name != "latent"), "no prior ships with the latent model"
    assert result["needed"][best] == result["rounds"] and result["bounds"][best][-1] <= TOL
    for method, errors in result["errors"].items():
        assert len(errors) == len(result["bounds"][method]) == result["rounds"]
    assert result["errors"][best][-1] <= result["bounds"][best][-1]


def test_the_shipped_page_is_what_its_results_say(tmp_path):
    def without_pictures(path):
        return re.sub(r"base64,[^\"]*", "", path.read_text())

    fresh = page.run_page(page.Page(out=tmp_path / "gallery.html"), silent())
    assert without_pictures(fresh) == without_pictures(SHIPPED), "python -m experiments.gallery page"
    assert SHIPPED.stat().st_size < LIMIT
    broken = sum(
        any(bound is not None and bound < error for error, bound in zip(errors, result["bounds"][method], strict=True))
        for result in map(about, NAMES)
        for method, errors in result["errors"].items()
    )
    assert SHIPPED.read_text().count("is below the error after") == broken, "a bound that fails is named"
    assert re.findall(r'<section id="(\w+)"', SHIPPED.read_text()) == [*NAMES]


@pytest.mark.slow
def test_the_page_needs_nothing_else(folder):
    written = page.run_page(page.Page(folder, folder / "gallery.html"), silent())
    for path in (written, SHIPPED):
        text = path.read_text()
        assert not re.search(r"""(src|href)=["'](?!data:|#)""", text) and "@import" not in text and "url(" not in text
        assert "://" not in text.replace("http://www.w3.org", "")
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids)), "two drawings share an id"
    (folder / "site").mkdir()
    shutil.copy(SHIPPED, folder / "site" / "gallery.html")
    assert check.problems(folder / "site") == []


@pytest.mark.slow
def test_the_slider_moves_pictures_and_words_by_keys(tab):
    tab.open(f"file://{SHIPPED}")
    for name in NAMES:
        result = about(name)
        best = next(method for method in result["errors"] if method not in ("Picard", TUNED))
        tab.run(f"document.querySelector('#{name} input').focus()")
        tab.press("Home")
        first = tab.run(f"document.querySelector('#{name} [data-best]').outerHTML")
        tab.press("ArrowRight")
        told = tab.run(f"document.querySelector('#{name} input').getAttribute('aria-valuetext')")
        error, bound = (shown(result[key][best][1]) for key in ("errors", "bounds"))
        assert told == f"round 2 of {result['rounds']}, error bound {bound}, true error {error}"
        row = tab.run(f"document.querySelector('#{name} [data-best]').outerHTML")
        assert f"error {error}<" in row and f"bound {bound}<" in row and row != first
        up = 100 / result["rounds"]
        moved = tab.run(f"document.querySelector('#{name} [data-best] .strip')?.style.transform")
        assert moved is None or float(re.findall(r"-([\d.]+)%", moved)[0]) == pytest.approx(up, rel=1e-4)
        assert tab.run(f"[...document.querySelectorAll('#{name} .rounds')].every(g => g.children[1].matches('.on'))")
        tab.press("End")
        assert tab.run(f"document.querySelector('#{name} output').textContent") == "{0} of {0}".format(result["rounds"])


@pytest.mark.slow
def test_play_begins_and_pauses_by_the_keyboard(tab):
    tab.open(f"file://{SHIPPED}")
    tab.run("document.querySelector('#digits button').focus()")
    assert tab.names("button")[0] == "Play the rounds of Digits"
    tab.press("Enter")
    assert tab.names("button")[0] == "Pause the rounds of Digits"
    tab.press("Enter")
    assert tab.names("button")[0] == "Play the rounds of Digits"
    tab.open(f"file://{SHIPPED}", still=True)
    assert tab.names("button") == [], "nothing that moves for those who want less motion"
    assert len(tab.names("slider")) == len(NAMES)


@pytest.mark.slow
def test_everything_has_a_name(tab):
    tab.open(f"file://{SHIPPED}")
    sliders, pictures = tab.names("slider"), tab.names("image")
    assert len(sliders) == len(NAMES) and all(name.startswith("Round of ") for name in sliders)
    assert len(set(sliders)) == len(sliders) and all(pictures) and len(pictures) > 40
    assert len(tab.names("region")) == len(NAMES) and all(tab.names("region"))


@pytest.mark.slow
@pytest.mark.parametrize("width", [375, 1280])
def test_no_width_overflows(tab, width):
    for script in (True, False):
        tab.open(f"file://{SHIPPED}", width, script=script)
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert tab.run("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        shows = tab.run("getComputedStyle(document.querySelector('.controls')).display")
        assert shows == ("flex" if script else "none")


@pytest.mark.slow
def test_an_episode_is_filmed_and_one_decision_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(environments.PushT, "max_steps", 9)
    run_episode(Episode(decision=1, frames=2, results=tmp_path), silent())
    result = json.loads((tmp_path / "gallery_pusht.json").read_text())
    assert result["acts"] == 9 and len(result["decisions"]) == 2 and result["frames"] == [1, 9]
    with PIL.Image.open(tmp_path / result["picture"]) as film:
        assert film.size == tuple(result["line"][::-1])
    exact, plans = np.array(result["plans"]["sequential"][0]), np.array(result["plans"][GUESS])
    assert plans.shape == (result["rounds"], *exact.shape) and exact.shape == (15, 2)
    far = np.abs(plans - exact).max(axis=(1, 2))
    assert far[-1] < 0.1 * far[0], "the last plan lies on the sequential one"
    with pytest.raises(ValueError, match="ended after 2 decisions; follow one before 5"):
        run_episode(Episode(decision=5, frames=2, results=tmp_path), silent())


def test_bad_input(tmp_path):
    with pytest.raises(ValueError, match=r"holds no gallery_\*\.json; draw samples first"):
        page.run_page(page.Page(tmp_path, tmp_path / "page.html"), silent())
    with pytest.raises(ValueError, match="there is no model 'cats'; choose one of"):
        run_draw(Draw(model="cats", results=tmp_path), silent())


def test_a_bound_that_is_not_known_is_no_point():
    result = {"rounds": 2, "tol": 0.01, "errors": {TUNED: [0.5, 0.002]}, "bounds": {TUNED: [None, 0.02]}}
    errors, bounds = re.findall(r'points="([^"]*)"', charts.convergence(result, "name"))
    assert len(errors.split()) == 2 and len(bounds.split()) == 1
