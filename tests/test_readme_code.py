"""README's code runs as it stands there."""

import re
import runpy
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("index", range(len(BLOCKS)))
def test_block(index, tmp_path, capsys):
    script = tmp_path / "readme_block.py"
    script.write_text(BLOCKS[index])
    names = runpy.run_path(str(script))
    assert bool(names["out"].converged.all())
    assert capsys.readouterr().out


def test_there_is_code_for_every_promise():
    assert all(len([line for line in block.splitlines() if line.strip()]) <= 15 for block in BLOCKS)
    for word in ("linen", "nnx", "equinox", "def model_fn", "pmap()", "shard_map()"):
        assert any(word in block for block in BLOCKS), word
