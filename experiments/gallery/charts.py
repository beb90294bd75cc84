"""Drawings of the page, as SVG: error and bound against rounds, rounds of decisions, plans over a scene."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

COLORS = {
    "Picard": "#c2562c",
    "Picard + secant": "#2f6fb0",
    "secant + prior": "#7a4fa3",
    "PCM + secant": "#0f8080",
}
WIDTH, HEIGHT, LEFT, BOTTOM = 340, 210, 44, 32


def convergence(result: Mapping[str, Any], name: str) -> str:
    """Errors as lines, bounds as dashes, the tolerance as dots, and a cursor that the slider moves."""
    rounds, tol = result["rounds"], result["tol"]
    known = [value for key in ("errors", "bounds") for line in result[key].values() for value in line if value]
    low = math.floor(math.log10(min(*known, tol)))
    high = math.ceil(math.log10(max(known)))

    def x(at: float) -> float:
        return LEFT + 8 + (WIDTH - LEFT - 18) * (at - 1) / max(rounds - 1, 1)

    def y(value: float) -> float:
        return 8 + (HEIGHT - BOTTOM - 8) * (high - math.log10(max(value, 10**low))) / (high - low)

    parts = []
    for power in range(low, high + 1):
        line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y(10**power):.1f}" y2="{y(10**power):.1f}"/>'
        parts.append(line + f'<text x="{LEFT - 6}" y="{y(10**power) + 4:.1f}" text-anchor="end">{10**power:g}</text>')
    every = max(1, math.ceil(rounds / 12))
    for at in range(1, rounds + 1, every):
        parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{at}</text>')
    middle = (LEFT + WIDTH) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">rounds</text>')
    parts.append(f'<line class="tolerance" x1="{LEFT}" x2="{WIDTH}" y1="{y(tol):.1f}" y2="{y(tol):.1f}"/>')
    parts.append(f'<line class="cursor" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="8" y2="{HEIGHT - BOTTOM}"/>')
    for method in result["errors"]:
        for key, dashes in (("errors", ""), ("bounds", ' stroke-dasharray="5 3"')):
            there = [(x(at), y(value)) for at, value in enumerate(result[key][method], 1) if value]
            path = " ".join(f"{across:.1f},{down:.1f}" for across, down in there)
            parts.append(f'<polyline points="{path}" stroke="{COLORS[method]}"{dashes}/>')
    about = f"{name}: error and bound against rounds; the numbers stand beside the pictures"
    step = (x(2) - x(1)) if rounds > 1 else 0
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(about)}" '
        f'data-step="{step:.2f}">{"".join(parts)}</svg>'
    )


def decisions(rounds: Sequence[int], steps: int, followed: int, name: str) -> str:
    """A bar for every decision, on the scale of the sequential sampler's steps."""
    wide, high, left = 420, 90, 30
    each = (wide - left) / len(rounds)

    def y(value: float) -> float:
        return 12 + (high - 16) * (1 - value / steps)

    chosen = ' class="followed"'
    bars = [
        f'<rect x="{left + each * place + each * 0.15:.1f}" y="{y(count):.1f}" width="{each * 0.7:.1f}" '
        f'height="{high - 4 - y(count):.1f}"{chosen if place == followed else ""}/>'
        for place, count in enumerate(rounds)
    ]
    about = f"{name}: {len(rounds)} decisions of {min(rounds)} to {max(rounds)} rounds, beside {steps} sequential steps"
    return (
        f'<svg class="bars" viewBox="0 0 {wide} {high}" role="img" aria-label="{html.escape(about)}">'
        f'<line class="tolerance" x1="{left}" x2="{wide}" y1="{y(steps)}" y2="{y(steps)}"/>'
        f'<line class="grid" x1="{left}" x2="{wide}" y1="{y(0)}" y2="{y(0)}"/>'
        f'<text x="{left - 6}" y="{y(steps) + 4}" text-anchor="end">{steps}</text>'
        f'<text x="{left - 6}" y="{y(0)}" text-anchor="end">0</text>{"".join(bars)}</svg>'
    )


def plans(result: Mapping[str, Any], method: str, scene: str, size: int, about: str) -> str:
    """The scene with the sequential plan as a pale band, and over it this method's plan after each round.

    Actions that are carried out are dots. Without a script all rounds are seen, the later the darker.
    """
    plans_of, executed = result["plans"], result["executed"]
    rounds = len(plans_of[method])
    drawn = []
    for place, plan in enumerate(plans_of[method], 1):
        dots = "".join(f'<circle cx="{x}" cy="{y}" r="3.5"/>' for x, y in plan[:executed])
        line = f'<polyline points="{_points(plan)}"/>'
        drawn.append(f'<g opacity="{0.15 + 0.85 * (place / rounds) ** 2:.2f}">{line}{dots}</g>')
    color = COLORS[method]
    return (
        f'<svg class="plan" viewBox="0 0 {size} {size}" role="img" aria-label="{html.escape(about)}">'
        f'<use href="#{scene}"/><polyline class="exact" points="{_points(plans_of["sequential"][0])}"/>'
        f'<g class="rounds" stroke="{color}" fill="{color}">{"".join(drawn)}</g></svg>'
    )


def _points(plan: Sequence[Sequence[float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in plan)
