"""README and docs: links, pictures, names of the reference and tables, before any site is built."""

import re
import subprocess
from urllib.parse import unquote

import pytest

import pcm_jax
from experiments.common.figures import ROOT
from experiments.site import public, readme

pytestmark = pytest.mark.fast
PAGES = readme.pages()
BY_NAME = {str(page.relative_to(ROOT)): page for page in PAGES}


def targets(text):
    """What links and pictures of a Markdown text lead to, outside of code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"!?\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))


def anchors(text):
    """Of headings, as GitHub and MyST make them, and of MyST's own labels."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


@pytest.mark.parametrize("name", BY_NAME)
def test_every_link_and_picture_is_there(name):
    page = BY_NAME[name]
    for target in targets(page.read_text()):
        path, _, place = target.partition("#")
        file = (page.parent / unquote(path)).resolve() if path else page
        assert file.is_relative_to(ROOT) and file.is_file(), target
        assert not place or place in anchors(file.read_text()), target


def test_links_are_found():
    text = "[a](b.md#c) ![d](e.png) `[f](g)`\n```\n[h](i)\n```\n"
    assert targets(text) == ["b.md#c", "e.png"]
    assert anchors("## What `tol` is, then\n(here)=\n") == {"what-tol-is-then", "here"}


def test_files_that_links_name_are_committed():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    named = {
        str((page.parent / target.split("#")[0]).resolve().relative_to(ROOT))
        for page in PAGES
        for target in targets(page.read_text())
        if target.split("#")[0]
    }
    assert named <= set(tracked) and len(named) > 60


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_page_is_in_the_table_of_contents():
    listed = set()
    for page in PAGES:
        for toc in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            listed |= {(page.parent / f"{line}.md").resolve() for line in toc.splitlines() if line and line[0] != ":"}
    assert listed == set(PAGES) - {ROOT / "README.md", ROOT / "docs" / "index.md"}


def described():
    """Names of all directives on the reference pages."""
    text = "\n".join(page.read_text() for page in PAGES if page.parent.name == "api")
    return re.findall(r"^\.\. (?:auto|py:)(?:function|class|data):: (\S+)$", text, re.MULTILINE)


def test_the_reference_describes_every_public_name_once():
    names = described()
    assert public.missing(names) == []
    assert sorted(names) == sorted(public.public())


def test_a_new_name_is_missed(monkeypatch):
    monkeypatch.setattr(pcm_jax, "tomorrow", lambda: None, raising=False)
    monkeypatch.setattr(pcm_jax, "__all__", [*pcm_jax.__all__, "tomorrow"])
    assert public.missing(described()) == ["pcm_jax.tomorrow"]


def test_public_names():
    names = public.public()
    assert {"pcm_jax.scan", "pcm_jax.solvers.ddim", "pcm_jax.schedules.edm", "pcm_jax.certificates.defect_sum"} <= set(
        names
    )
    assert {"pcm_jax.types.Shared", "pcm_jax.data.robots.load_pusht"} & set(names) and len(names) == len(set(names))
    assert not [name for name in names if name.split(".")[-1].startswith("_")]
    assert "The same as :py:func:`pcm_jax.scan`." in public.reference("pcm_jax.scanning")
    assert ":undoc-members:" in public.reference("pcm_jax")
