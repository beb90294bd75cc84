"""The code on README and on every page of docs runs as it stands there."""

import re
import runpy

import jax
import pytest

from experiments.common.figures import ROOT
from experiments.site.readme import pages

CACHE = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


def blocks():
    """Code -> the place where it stands first: a block that two pages show runs once."""
    found = {}
    for page in pages():
        for index, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)):
            found.setdefault(code, f"{page.relative_to(ROOT)}-{index}")
    return found


BLOCKS = blocks()


@pytest.fixture
def settings():
    """A page may set JAX up for the reader; the tests after it keep their own."""
    before = {name: getattr(jax.config, name) for name in CACHE}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.slow
@pytest.mark.parametrize("code", [pytest.param(code, id=place) for code, place in BLOCKS.items()])
def test_block(code, settings, tmp_path, capsys):
    script = tmp_path / "block.py"
    script.write_text(code)
    names = runpy.run_path(str(script))
    assert bool(names["out"].converged.all())
    assert capsys.readouterr().out


@pytest.mark.fast
def test_there_is_code_for_every_promise():
    lengths = {place: len([line for line in code.splitlines() if line.strip()]) for code, place in BLOCKS.items()}
    assert max(lengths.values()) <= 15, lengths
    promised = ("linen", "nnx", "equinox", "haiku", "def model_fn", "pcm.scan", "pcm_jax.scan", "pmap()", "shard_map()")
    for word in (
        *promised,
        "jax.vmap",
        "jax.grad",
        "jax.jit",
        "export",
        "compilation_cache",
        "load_pipeline",
        "prior=",
    ):
        assert any(word in code for code in BLOCKS), word
