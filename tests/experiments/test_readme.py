"""Tables of README and docs come from JSON, and are the ones of the JSON beside them."""

import json
import subprocess

import pytest

from experiments.common import figures
from experiments.site import readme

pytestmark = pytest.mark.fast

ROW = {
    "solver": "DDIM-50",
    "method": "Picard",
    "rounds": 11,
    "evaluations": 412.0,
    "speedup": 50 / 11,
    "seconds": 1.23456,
    "rounds_mean": 10.25,
    "worst_error": 2.1234e-4,
    "error_bound": 8.1e-3,
    "result": "CONVERGED 64/64",
}
DEMO = {
    "rows": [ROW, ROW | {"method": "sequential", "worst_error": 0.0, "error_bound": 0.0, "speedup": None}],
    "device": "cpu",
    "commit": "abc",
}
TEXT = "before\n<!-- begin:demo -->\nold\n<!-- end:demo -->\nafter\n<!-- begin:figures -->\n<!-- end:figures -->\n"


def test_tables(tmp_path):
    (tmp_path / "demo.json").write_text(json.dumps(DEMO))
    text = readme.render(TEXT, tmp_path)
    assert (
        "| solver | method | rounds | mean | evaluations | fewer calls in a row | seconds here | RMS error (worst) |"
        in text
    )
    assert "| DDIM-50 | Picard | 11 | 10.2 | 412 | 4.5x | 1.23 | 2.1e-04 | 8.1e-03 | CONVERGED 64/64 |" in text
    assert "| DDIM-50 | sequential | 11 | 10.2 | 412 |  | 1.23 | 0 | 0 |" in text
    assert "old" not in text and text.startswith("before\n") and "\nafter\n" in text
    assert readme.render(text, tmp_path) == text


def test_rounds_of_every_solver(tmp_path):
    row = {"solver": "PNDM-50", "steps": 51, "way": "secant", "rounds_mean": 7.875}
    rows = [row, row | {"way": "secant + prior", "rounds_mean": 7.125}]
    result = {"rows": rows, "config": {"batch": 8}, "device": "cpu"}
    (tmp_path / "bench_solvers.json").write_text(json.dumps(result))
    text = readme.render("<!-- begin:bench_solvers -->\n<!-- end:bench_solvers -->\n", tmp_path)
    assert "| solver | calls | secant | secant + prior |" in text and "| PNDM-50 | 51 | 7.9 | 7.1 |" in text
    assert "Mean rounds of 8 samples, cpu." in text


ACCELERATOR = {
    "platform": "gpu",
    "parts": {
        "samplers": [
            {"model": "fashion", "solver": "ddim-100", "batch": 1, "method": "sequential", "seconds": 0.0851},
            {
                "model": "fashion",
                "solver": "ddim-100",
                "batch": 1,
                "method": "secant",
                "speedup": 5.44,
                "certified": 1.0,
            },
            {"model": "fashion", "solver": "ddim-100", "batch": 1, "method": "PCM", "speedup": 9.0, "certified": 0.5},
        ],
        "tuned": [
            {"model": "fashion", "solver": "ddim-100", "batch": 1, "method": "tuned", "speedup": 6.0, "certified": 1.0}
        ],
    },
    "skipped": [{}],
    "failed": [],
    "took": 430.0,
    "device": "NVIDIA H200",
    "commit": "abc",
}


@pytest.mark.parametrize("platform", ["gpu", "tpu", "cpu"])
def test_seconds_of_an_accelerator(tmp_path, platform):
    (tmp_path / "accelerator.json").write_text(json.dumps(ACCELERATOR | {"platform": platform}))
    block = "<!-- begin:accelerator -->\nof an H200\n<!-- end:accelerator -->\n"
    text = readme.render(block, tmp_path)
    if platform == "cpu":
        assert text == block, "a CPU's seconds must not take the place of an accelerator's"
        return
    assert "| fashion | ddim-100 | 1 | 85.1 |  | 5.4x |  | - | 6.0x |" in text
    assert "NVIDIA H200, commit abc, 430 s in all; 1 measurements were left out" in text


def test_figures_table(tmp_path):
    figures.record("overhead.cpu", 1.04321, command="make bench", results=tmp_path)
    text = readme.render(TEXT, tmp_path)
    assert "| `overhead.cpu` | 1.04 |" in text
    assert "\nold\n" in text, "a block without results must stay"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- begin:nothing -->\n<!-- end:nothing -->", "no renderer"),
        ("<!-- begin:demo -->\n", "no partner"),
        ("<!-- end:demo -->\n", "no partner"),
        ("<!-- begin:demo -->\n<!-- end:figures -->", "no partner"),
    ],
)
def test_bad_markers(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        readme.render(text, tmp_path)


def test_check_finds_a_stale_table_and_writes_nothing(tmp_path):
    (tmp_path / "demo.json").write_text(json.dumps(DEMO))
    file = tmp_path / "README.md"
    file.write_text(TEXT)
    with pytest.raises(SystemExit, match=r"README\.md is stale"):
        readme.main(check=True, files=[file], results=tmp_path)
    assert file.read_text() == TEXT
    readme.main(files=[file], results=tmp_path)
    readme.main(check=True, files=[file], results=tmp_path)
    assert "| DDIM-50 |" in file.read_text()


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    """A folder with the results of the last commit."""
    folder = tmp_path_factory.mktemp("committed")
    where = figures.RESULTS.relative_to(figures.ROOT)
    for stem in {name.split(".")[0] for name in readme.RENDERERS}:
        show = ["git", "show", f"HEAD:{where}/{stem}.json"]
        found = subprocess.run(show, cwd=figures.ROOT, capture_output=True)
        if found.returncode == 0:  # a table whose study has not been committed yet stays as it is
            (folder / f"{stem}.json").write_bytes(found.stdout)
    return folder


@pytest.mark.parametrize("page", readme.pages(), ids=lambda page: str(page.relative_to(figures.ROOT)))
def test_the_pages_of_the_repository_are_current(page, committed):
    text = page.read_text()
    # After make demo the results here are this machine's own; the pages then still show the committed ones.
    assert text in (readme.render(text), readme.render(text, committed)), "run python -m experiments.site.readme"


def test_every_table_is_on_a_page():
    text = "\n".join(page.read_text() for page in readme.pages())
    assert [name for name in readme.RENDERERS if f"<!-- begin:{name} -->" not in text] == []


def test_a_part_reads_the_same_file(tmp_path):
    rows = [ROW | {"method": method, "evaluations": 640} for method in ("sequential", "Picard", "PCM + secant")]
    about = {"config": {"images": 64, "tol": 0.01}, "command": "make demo", "device": "cpu", "commit": "abc"}
    (tmp_path / "demo.json").write_text(json.dumps({"rows": rows, **about}))
    text = readme.render("<!-- begin:demo.short -->\n<!-- end:demo.short -->\n", tmp_path)
    assert "| DDIM-50 | Picard | 10.2 | 10 | 0.0002 | 0.0081 |" in text and "PCM" not in text
    assert "64 digits, `tol=0.01`. `make demo`, cpu, commit abc." in text
