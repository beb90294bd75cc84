"""Fewer steps of a sequential sampler from the same noise: no parallel rounds, and not the same sample."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.peers.problem import Case, Estimate


def few_step(case: Case, kind: str, steps: int) -> Iterator[Estimate]:
    """DDIM (arXiv 2010.02502) or second-order DPM-Solver++ (arXiv 2211.01095), compared with the full sampler."""
    assert case.few is not None
    solver = case.few(kind, steps)
    yield Estimate(case.sequential(solver).sample, len(solver), len(solver))
