r"""Derivatives of a solved recurrence, forward and reverse, of any order.

The fixed point satisfies x_{i+1} = F_i(x_i, theta), so its tangent is that of the sequential recurrence at the same
states (implicit function theorem; I - dF/dx is block triangular):

    x'_{i+1} = dF_i/dx x'_i + dF_i/dtheta theta'

T Jacobian-vector products one after the other. Its transpose, which JAX finds, is the adjoint recurrence run from the
last step back. The rounds are never unrolled, and as every step is rematerialised only one step's activations are alive
at a time. The states are themselves results of this rule, so derivatives of derivatives come out right. Where the
rounds ended early (MAX_ROUNDS) this is the sequential derivative at the states reached, as good as they are.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from pcm_jax.parallel import vary_like
from pcm_jax.recurrence.state import Solved
from pcm_jax.types import Array, PyTree


class Call(Protocol):
    """A compiled parallel sampler, hashable, and one step of its recurrence."""

    @property
    def depth(self) -> int:
        """How many memories of earlier rows a row reads."""

    def whole(self) -> Call:
        """The same call, returning the trajectory and what the rows emit."""

    def shown(self, out: Solved) -> Solved:
        """Of what `whole` returns, what this call does."""

    def run(self, theta: PyTree, rows: PyTree, first: PyTree, rest: PyTree) -> Solved:
        """Rounds. theta: what all rows share; rows: leading axis T; rest: nothing that the fixed point depends on."""

    def one_step(self, theta: PyTree, row: PyTree, x: PyTree, before: Array | None) -> tuple[PyTree, PyTree, PyTree]:
        """(x', memory, emitted) of one row of the sequential recurrence."""


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def differentiable(call: Call, theta: PyTree, rows: PyTree, first: PyTree, rest: PyTree) -> Solved:
    """`call.run(theta, rows, first, rest)` with the derivative of its fixed point."""
    return call.run(theta, rows, first, rest)


@functools.partial(differentiable.defjvp, symbolic_zeros=True)
def _rule(call: Call, primals: tuple[PyTree, ...], tangents: tuple[PyTree, ...]) -> tuple[Solved, Solved]:
    theta, rows, first, _ = primals
    whole = differentiable(call.whole(), *primals)
    structure, moving = _split((theta, rows, first), tangents[:3])
    states, emitted = _tangents(
        call,
        structure,
        moving,
        whole.trajectory,
        whole.emitted if call.depth else None,
    )
    zero = jax.tree.map(_zero, whole)
    inexact = [index for index, leaf in enumerate(jax.tree.leaves(whole.emitted)) if _smooth(leaf)]
    kind: Any
    flat, kind = jax.tree.flatten(zero.emitted)
    for index, leaf in zip(inexact, emitted, strict=True):
        flat[index] = leaf
    last = jax.tree.map(lambda leaf: leaf[-1], states)
    tangent = zero._replace(last=last, trajectory=states, emitted=kind.unflatten(flat))
    return call.shown(whole), call.shown(tangent)


class _Moving(NamedTuple):
    """Leaves of theta and rows that carry a tangent, these tangents, and the other leaves."""

    theta: list[Array]
    theta_dot: list[Array]
    theta_rest: list[Array]
    rows: list[Array]
    rows_dot: list[Array]
    rows_rest: list[Array]
    first_dot: PyTree


def _split(primals: tuple[PyTree, PyTree, PyTree], dots: tuple[PyTree, PyTree, PyTree]) -> tuple[Any, _Moving]:
    shapes: list[tuple[Any, tuple[bool, ...]]] = []
    parts: list[list[Array]] = []
    for tree, dot in zip(primals[:2], dots[:2], strict=True):
        structure: Any
        leaves, structure = jax.tree.flatten(tree)
        tangents = jax.tree.leaves(dot)
        moves = tuple(
            not isinstance(each, SymbolicZero) and _smooth(leaf) for leaf, each in zip(leaves, tangents, strict=True)
        )
        shapes.append((structure, moves))
        parts += [
            [leaf for leaf, move in zip(leaves, moves, strict=True) if move],
            [each for each, move in zip(tangents, moves, strict=True) if move],
            [leaf for leaf, move in zip(leaves, moves, strict=True) if not move],
        ]
    first_dot = jax.tree.map(
        lambda leaf, dot: jnp.zeros_like(leaf) if isinstance(dot, SymbolicZero) else dot, primals[2], dots[2]
    )
    theta, theta_dot, theta_rest, rows, rows_dot, rows_rest = parts
    return tuple(shapes), _Moving(theta, theta_dot, theta_rest, rows, rows_dot, rows_rest, first_dot)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _tangents(
    call: Call, structure: Any, moving: _Moving, trajectory: PyTree, memories: Array | None
) -> tuple[PyTree, list[Array]]:
    """Tangents of the states `[T + 1, B, ...]`, and of the inexact leaves that the rows emit."""
    before, before_dot = None, None
    if memories is not None:
        # Row i reads the memories of rows i - k .. i - 1, oldest first.
        depth, steps = call.depth, memories.shape[0]
        padded = jnp.concatenate([jnp.zeros_like(memories[:depth]), memories])
        before = jnp.stack([padded[lag : lag + steps] for lag in range(depth)], axis=1)
        before_dot = jnp.zeros_like(before[0])

    @functools.partial(jax.checkpoint, prevent_cse=False)
    def body(carry: Any, inputs: Any) -> Any:
        x_dot, before_dot = carry
        rows, rows_dot, rows_rest, x, before = inputs

        def step(theta: list[Array], rows: list[Array], x: PyTree, before: Array | None) -> Any:
            both = (_join(structure[0], theta, moving.theta_rest), _join(structure[1], rows, rows_rest))
            new, memory, emitted = call.one_step(*both, x, before)
            return new, memory if call.depth else None, [leaf for leaf in jax.tree.leaves(emitted) if _smooth(leaf)]

        point = (moving.theta, rows, x, before)
        _, (new, memory, emitted) = jax.jvp(step, point, (moving.theta_dot, rows_dot, x_dot, before_dot))
        if before_dot is not None:
            before_dot = jnp.concatenate([before_dot[1:], memory[None]])
        return (new, before_dot), (new, emitted)

    states = jax.tree.map(lambda leaf: leaf[:-1], trajectory)
    start = vary_like((moving.first_dot, before_dot), (moving, trajectory, memories))
    inputs = (moving.rows, moving.rows_dot, moving.rows_rest, states, before)
    _, (after, emitted) = lax.scan(body, start, inputs)
    return jax.tree.map(lambda dot, rest: jnp.concatenate([dot[None], rest]), start[0], after), emitted


def _join(shape: tuple[Any, tuple[bool, ...]], moving: list[Any], rest: list[Any]) -> Any:
    """The tree that was taken apart."""
    ours, others = iter(moving), iter(rest)
    structure: Any
    structure, moves = shape
    return structure.unflatten([next(ours) if move else next(others) for move in moves])


def _smooth(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


def _zero(leaf: Array) -> SymbolicZero:
    return SymbolicZero(jax.typeof(leaf).to_tangent_aval())
