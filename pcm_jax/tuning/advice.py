"""One sentence of what to do, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcm_jax.tuning.plan import Plan


def advice(plan: Plan, limit: int | None) -> str:
    """What the plan says. limit: bytes that a program could have."""
    steps = f"the {plan.steps} steps one after the other take {seconds(plan.sequential_seconds)}"
    if plan.steps == 1:
        return "Sequential is faster here: there is one step."
    rounds = f"{plan.cost.rounds(plan.window):.1f} rounds"
    size = f"window={plan.window}" + ("" if plan.microbatch is None else f", microbatch={plan.microbatch}")
    if not plan.sequential and plan.seconds is not None:
        gain = f"{seconds(plan.seconds)}, {plan.speedup:.1f} times faster than {steps.removeprefix('the ')}"
        return f"Sample with {size}: {rounds} take {gain}."
    if plan.seconds is not None:
        return f"Sequential is faster here: {steps}, the best window ({size}) {seconds(plan.seconds)} in {rounds}."
    if plan.runs:
        return f"Sequential is faster here: {steps}, and no window was done in twice that."
    if limit is not None and plan.expected >= 1:
        return f"Sequential is what fits here: no window's program fits into {limit:,} bytes; {steps}."
    least = seconds(plan.sequential_seconds / plan.expected)
    return f"Sequential is faster here: {steps}, and two evaluations of every state in batches at least {least}."


def seconds(value: float) -> str:
    """Three figures, in a unit that suits them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} us"
