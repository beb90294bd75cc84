"""What `make docs` and its checks are made of."""

import json
import subprocess
import sys
import zlib

import numpy as np
import pytest

from experiments.common.figures import RESULTS, ROOT
from experiments.site import check, look, public
from experiments.site.figure import figure_html
from experiments.site.rounds import METHODS, Rounds, run_rounds

sys.path.insert(0, str(ROOT / "docs" / "_ext"))
import docstrings

NUMBERS = json.loads((RESULTS / "rounds.json").read_text())


@pytest.fixture
def program():
    found = look.browser()
    if found is None:
        pytest.skip(f"no browser here; install one of {', '.join(look.BROWSERS)}")
    return found


@pytest.mark.fast
def test_what_is_wrong_with_a_site_is_found(tmp_path):
    (tmp_path / "style.css").write_text("@import url(https://fonts.example/a.css);")
    (tmp_path / "b.html").write_text('<p id="here">')
    good = (
        '<a href="b.html#here">b</a><a href="https://example.org">out</a><link rel="stylesheet" href="style.css?v=1">'
    )
    (tmp_path / "a.html").write_text(good)
    assert check.problems(tmp_path) == ["style.css: loads https://fonts.example/a.css"]
    bad = '<a href="c.html"></a><a href="b.html#there"></a><img src="b.html"><script src="//cdn.example/x.js"></script>'
    (tmp_path / "a.html").write_text(bad)
    assert sorted(check.problems(tmp_path)) == [
        "a.html: b.html#there has no such place",
        "a.html: c.html leads nowhere",
        "a.html: loads //cdn.example/x.js",
        "a.html: the picture b.html has no alt text",
        "style.css: loads https://fonts.example/a.css",
    ]
    assert "run make docs" in check.problems(tmp_path / "nothing")[0]


@pytest.mark.fast
def test_an_inventory_is_read(tmp_path):
    head = b"# Sphinx inventory version 2\n# Project: a\n# Version: 1\n# The remainder is compressed.\n"
    lines = "pcm_jax.scan py:function 1 api.html#$ -\nabout std:label -1 a.html About\n"
    (tmp_path / "objects.inv").write_bytes(head + zlib.compress(lines.encode()))
    found = public.described(tmp_path / "objects.inv")
    assert found == {"pcm_jax.scan"}
    assert len(public.missing(found)) == len(public.public()) - 1


@pytest.mark.fast
def test_docstrings_become_what_they_say():
    lines = [
        "One line with `a_` and b_, |x| * y.",
        "",
        "    x_{i+1} = F_i(x_i)",
        "",
        "rounds: of `[B]`,",
        "    and more.",
        "Args:",
        "    x, y: two",
        "        lines. tol: is text.",
        "Raises:",
        "    ValueError: always.",
        "Example:",
        "    >>> f(1)",
        "Reference: a paper,",
        "equation 2.",
    ]
    text = "\n".join(docstrings.restructured(lines, {"rounds"}))
    assert "One line with ``a_`` and b\\_, \\|x\\| \\* y." in text
    assert ".. code-block:: text\n\n   x_{i+1} = F_i(x_i)" in text
    assert "``rounds``\n   of ``[B]``, and more." in text
    inline = "\n".join(docstrings.restructured(["Two. a: one; b, c: more. d: no field."], {"a", "b", "c"}))
    assert "Two.\n\n``a``\n   one\n\n``b``, ``c``\n   more. d: no field." in inline
    assert ".. rubric:: Arguments\n\n``x``, ``y``\n   two lines. tol: is text." in text
    assert "``ValueError``\n   always." in text
    assert ".. code-block:: pycon\n\n   >>> f(1)" in text
    assert ".. rubric:: Reference\n\na paper, equation 2." in text


@pytest.mark.fast
def test_every_public_name_says_what_it_is():
    silent = []
    for room, module in public.rooms().items():
        for name in public.names(module):
            value, path = getattr(module, name), f"{room}.{name}"
            described = public.is_class(value) or public.is_function(value)
            text = value.__doc__ if described else "".join(docstrings.constant(path, value))
            if not text or text.startswith(f"{name}("):
                silent.append(path)
    assert silent == []
    assert docstrings.constant("pcm_jax.lora.nothing", object()) == []


@pytest.mark.fast
def test_the_figures_run_is_what_its_text_says():
    steps, methods = NUMBERS["steps"], NUMBERS["methods"]
    assert tuple(methods) == METHODS
    for method in methods.values():
        rounds = method["rounds"]
        assert method["result"] == "CONVERGED" and rounds[-1]["accepted"] == steps
        assert rounds[-1]["error"][-1] <= rounds[-1]["bound"] <= NUMBERS["config"]["tol"]
        assert [each["accepted"] for each in rounds] == sorted(each["accepted"] for each in rounds)
        assert all(len(each["error"]) == steps + 1 for each in rounds)
    assert (
        len(methods["secant + prior"]["rounds"]) < len(methods["secant"]["rounds"]) < len(methods["Picard"]["rounds"])
    )


def test_the_run_again(tmp_path):
    (method,) = run_rounds(Rounds(methods=("secant + prior",), tol=0.1), tmp_path)["methods"].values()
    written = json.loads((tmp_path / "rounds.json").read_text())
    assert written["methods"]["secant + prior"] == method and len(written["exact"]) == np.prod(written["shape"])
    assert method["result"] == "CONVERGED" and method["rounds"][-1]["bound"] <= 0.1
    for k, each in enumerate(method["rounds"], start=1):
        assert max(each["error"][: k + 1]) < 1e-4, "after k rounds the first k states are the sequential ones"


def test_the_figure_in_a_browser(program, tmp_path):
    static = ROOT / "docs" / "_static"
    page = f"<!doctype html><style>{(static / 'site.css').read_text()}</style>{figure_html(NUMBERS)}"
    (tmp_path / "figure.html").write_text(f"{page}<script>{(static / 'rounds.js').read_text()}</script>")
    command = [program, *look.FLAGS, look.NETWORK, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run([*command, f"file://{tmp_path}/figure.html"], capture_output=True, text=True, timeout=120)
    assert 'data-shown="2"' in done.stdout and "secant, round 2 of" in done.stdout
    assert done.stdout.count("<svg") == 3 and 'aria-valuetext="round 2 of' in done.stdout
    assert 'd="M' in done.stdout and done.stdout.count("<rect") == 1 + 2 * len(NUMBERS["exact"])


def test_a_page_that_is_too_wide_is_found(program, tmp_path):
    (tmp_path / "wide.html").write_text('<!doctype html><div style="width:900px">x</div>')
    (tmp_path / "good.html").write_text('<!doctype html><div style="overflow:auto"><p style="width:900px">x</p></div>')
    found = {(page, width): needed for page, width, needed, _ in look.measure(tmp_path, (390, 1280), program)}
    assert found["wide.html", 390] > 390 and found["wide.html", 1280] == 1280
    assert found["good.html", 390] == 390
    look.photograph(tmp_path, "good.html", 390, 300, tmp_path / "shot.png", program)
    assert (tmp_path / "shot.png").stat().st_size > 500
    assert not (tmp_path / "_frame.html").exists() and not (tmp_path / "_measure.html").exists()
