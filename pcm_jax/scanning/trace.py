"""A user's step function as data: its program, what it closes over, and which leaves of the carry read their past."""

from __future__ import annotations

import dataclasses
import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.interpreters import partial_eval

from pcm_jax.parallel import vary_like
from pcm_jax.scanning.validate import check_result, check_same_trace
from pcm_jax.types import Array, PyTree

Step = Callable[[PyTree, PyTree], Any]
"""`step(carry, x) -> carry` or `(carry, y)`, as in `jax.lax.scan`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A traced step, compared by identity: what is compiled for it is found again.

    outputs: shapes of y, None for a step that returns none. recurrent: for every leaf of the carry whether its next
    value reads it. kept: the step and the constants of the functions that it calls; their ids are not used again.
    """

    program: core.Jaxpr
    out: Any
    outputs: PyTree
    has_output: bool
    recurrent: PyTree
    kept: Any

    def __call__(self, closed_over: list[Array], carry: PyTree, x: PyTree) -> tuple[PyTree, PyTree]:
        """(carry, y)."""
        function = core.jaxpr_as_fun(core.ClosedJaxpr(self.program, closed_over))
        found = self.out.unflatten(function(*jax.tree.leaves((carry, x))))
        return found if self.has_output else (found, None)


def trace(step: Step, carry: PyTree, x: PyTree, name: str = "step") -> tuple[Traced, list[Array], PyTree]:
    """The step at this carry and x, the arrays that it closes over, and the carry as varying as what becomes of it.

    It is traced anew in every call, so what it closes over is current: those arrays are operands. A program that was
    seen before is known by the function, its text and the constants of functions inside it.

    Raises:
        ValueError: a step that changes the carry, or that is another program the second time.
    """
    carry = vary_like(carry, (carry, x))
    closed, shape = _program(step, carry, x)
    wider = vary_like(carry, closed.out_avals)
    if any(a is not b for a, b in zip(jax.tree.leaves(wider), jax.tree.leaves(carry), strict=True)):
        carry = wider
        closed, shape = _program(step, carry, x)
    inside = tuple(map(id, _constants(closed.jaxpr)))
    key = (id(step), name, _text(closed), inside, jax.tree.structure((carry, x)))
    if key not in _known:
        again, _ = _program(step, carry, x)
        check_same_trace(name, _text(closed) == _text(again) and _equal_constants(closed, again))
        structure: Any = jax.tree.structure(carry)
        has_output = jax.tree.structure(shape) != structure
        outputs = check_result(name, carry, shape, has_output)
        recurrent = structure.unflatten([_reads(closed.jaxpr, leaf) for leaf in range(structure.num_leaves)])
        kept = (step, _constants(closed.jaxpr))
        _known[key] = Traced(closed.jaxpr, jax.tree.structure(shape), outputs, has_output, recurrent, kept)
        if len(_known) > _MOST:
            _known.popitem(last=False)
    return _known[key], list(closed.consts), carry


def strong(leaf: Any) -> Array:
    """An array of a strong type, as a step returns it."""
    leaf = jnp.asarray(leaf)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return leaf
    return jax.lax.convert_element_type(leaf, leaf.dtype)


def _program(step: Step, carry: PyTree, x: PyTree) -> tuple[core.ClosedJaxpr, PyTree]:
    # JAX remembers traces by the function: a new one, so that the step's Python runs.
    found: tuple[core.ClosedJaxpr, PyTree] = jax.make_jaxpr(lambda carry, x: step(carry, x), return_shape=True)(
        carry, x
    )
    return found


_MOST = 32
_known: OrderedDict[Any, Traced] = OrderedDict()


def _reads(program: core.Jaxpr, leaf: int) -> bool:
    """Whether output `leaf` depends on input `leaf`."""
    wanted = [index == leaf for index in range(len(program.outvars))]
    return bool(partial_eval.dce_jaxpr(program, wanted)[1][leaf])


def _text(closed: core.ClosedJaxpr) -> str:
    """The program without the addresses of Python objects."""
    return re.sub(r"0x[0-9a-f]+", "", str(closed.jaxpr))


def _constants(program: core.Jaxpr) -> list[Any]:
    """Arrays inside functions that the program calls. Those of the step itself are its operands."""
    found: list[Any] = []
    for equation in program.eqns:
        for value in jax.tree.leaves(tuple(equation.params.values()), is_leaf=_is_program):
            if isinstance(value, core.ClosedJaxpr):
                found += value.consts
                value = value.jaxpr
            if isinstance(value, core.Jaxpr):
                found += _constants(value)
    return found


def _is_program(value: Any) -> bool:
    return isinstance(value, (core.ClosedJaxpr, core.Jaxpr))


def _equal_constants(one: core.ClosedJaxpr, two: core.ClosedJaxpr) -> bool:
    ours, theirs = ([*each.consts, *_constants(each.jaxpr)] for each in (one, two))
    return len(ours) == len(theirs) and all(a is b or _equal(a, b) for a, b in zip(ours, theirs, strict=True))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return isinstance(a, jax.core.Tracer) and isinstance(b, jax.core.Tracer)
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    return np.array_equal(np.asarray(a), np.asarray(b), equal_nan=np.asarray(a).dtype.kind in "fc")
