"""What is read off compiled programs: transfers, those of the loop, and what the loop carries on one device."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, Mesh, PartitionSpec
from rich.console import Console

from experiments.bench import programs
from experiments.bench import spmd as bench_spmd

MESH = Mesh(np.asarray(jax.devices()), ("rows",), axis_types=(AxisType.Auto,))
SPEC = PartitionSpec("rows")


def compiled(function, *shapes) -> str:
    mapped = jax.shard_map(function, mesh=MESH, in_specs=SPEC, out_specs=SPEC, check_vma=False)
    return jax.jit(mapped).lower(*(np.zeros(shape, np.float32) for shape in shapes)).compile().as_text()


@pytest.mark.fast
def test_bytes_of_a_gather():
    text = compiled(lambda x: lax.all_gather(x, "rows", tiled=True), (16, 10))
    assert programs.by_kind(programs.collectives(text)) == {"all-gather": 16 * 10 * 4}
    with pytest.raises(ValueError, match="no loop"):
        programs.in_loop(text)


@pytest.mark.fast
def test_a_loop_and_what_is_around_it():
    """One transfer a round, one after the loop; of the carry the arrays that hold samples."""

    def run(x):
        def body(carry):
            count, x, y = carry
            moved = lax.ppermute(x, "rows", [(i, (i + 1) % 8) for i in range(8)])
            return count + 1, moved * 0.5, y + lax.cond(count > 2, jnp.sin, jnp.cos, y)

        _, x, y = lax.while_loop(lambda carry: carry[0] < 5, body, (0, x, jnp.sum(x, 1)))
        return x + lax.psum(jnp.max(y), "rows")

    text = compiled(run, (16, 3, 10))
    assert programs.by_kind(programs.in_loop(text)) == {"collective-permute": 2 * 3 * 10 * 4}
    assert len(programs.collectives(text)) == 2
    assert programs.state_bytes(text, (10,)) == (2 * 3 * 10 + 2 * 10) * 4
    assert programs.state_bytes(text, (3, 10)) == 2 * 3 * 10 * 4


def test_the_study_runs():
    said = io.StringIO()
    bench_spmd.run(0, True, Console(file=said, width=200))
    assert "shard_map" in said.getvalue() and "all-gather" in said.getvalue()
