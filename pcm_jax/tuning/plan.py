"""What tuning found: how to sample here, and the numbers behind it. JSON in and out."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcm_jax.files import write_text
from pcm_jax.parallel import Executor, single
from pcm_jax.priors import GaussianPrior
from pcm_jax.recurrence import Certificate, Linearization, defect_sum, secant
from pcm_jax.results import SampleOutput, ScanOutput
from pcm_jax.sampling import sample_picard, sample_sequential
from pcm_jax.scanning import scan, scan_sequential
from pcm_jax.scanning.trace import Step
from pcm_jax.scanning.validate import check_length
from pcm_jax.solvers import Solver
from pcm_jax.switching import Adapter, Switch
from pcm_jax.tuning.cost import CostModel, RowsCurve, Run
from pcm_jax.tuning.stored import KIND, read_fields
from pcm_jax.types import Array, ArrayLike, Cond, ModelFn, Params, PyTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to sample on this device, as `pcm_jax.tune` found it.

    sequential: whether the T steps one after the other are faster here than any window.
    window: W of the fastest parallel sampler, T where none was measured.
    microbatch: network rows of one call, None for all at once.
    steps, batch: T, and network rows of one step.
    tol: what the rounds were counted at.
    seconds: of the fastest parallel sampler, None where none was measured. sequential_seconds: of the T steps.
    expected: sequential over parallel seconds as predicted; an upper bound where no window was measured.
    memory: bytes on a device that the chosen program asks for, None where the backend does not say.
    rows: (network rows, seconds of one call) as measured. runs: windows as they were measured.
    devices: that the window was spread over. device: their kind. subject: "sample" or "scan".
    advice: one sentence.

    Example:
        plan = pcm_jax.tune(model_fn, params, noise, solver, cond=cond)
        out = plan.sample(model_fn, params, noise, solver, cond=cond)
        plan.save("plan.json")
    """

    subject: str
    sequential: bool
    window: int
    microbatch: int | None
    steps: int
    batch: int
    tol: float
    seconds: float | None
    sequential_seconds: float
    expected: float
    memory: int | None
    rows: tuple[tuple[int, float], ...]
    runs: tuple[Run, ...]
    devices: int
    device: str
    advice: str

    @property
    def speedup(self) -> float:
        """Measured: the sequential sampler's seconds over those of what `sample` runs; 1 where that is itself."""
        return 1.0 if self.sequential or self.seconds is None else self.sequential_seconds / self.seconds

    @property
    def cost(self) -> CostModel:
        """Predicts rounds and seconds of every window from what was measured."""
        curve = RowsCurve(tuple(rows for rows, _ in self.rows), tuple(seconds for _, seconds in self.rows))
        return CostModel(self.steps, self.batch, self.devices, curve, self.runs)

    @property
    def options(self) -> dict[str, Any] | None:
        """Arguments of `sample_picard` or `scan`; None where the sequential sampler is faster."""
        return None if self.sequential else {"window": self.window, "microbatch": self.microbatch, "tol": self.tol}

    def sample(
        self,
        model_fn: ModelFn,
        params: Params,
        noise: ArrayLike,
        solver: Solver,
        *,
        cond: Cond = None,
        key: Array | None = None,
        step_noise: ArrayLike | None = None,
        tol: float | None = None,
        linearization: Linearization = secant(),  # noqa: B008 - frozen
        certificate: Certificate = defect_sum(),  # noqa: B008 - frozen
        prior: GaussianPrior | None = None,
        adapter: Adapter | None = None,
        switch: Switch | None = None,
        executor: Executor = single(),  # noqa: B008 - frozen
        return_trajectory: bool = False,
        throw: bool = False,
    ) -> SampleOutput:
        """`sample_picard` with this window and microbatch, or `sample_sequential` where that is faster.

        Arguments as of `sample_picard`; tol: None is the plan's. A batch of another size gets the same samples, though
        maybe not as fast as with a plan of its own.

        Raises:
            ValueError: a solver of another number of steps, a plan of a scan, or arguments that do not fit.
        """
        self._check("sample", "Plan.scan")
        if isinstance(solver, Solver):
            self._same_steps(len(solver), solver.name)
        common: dict[str, Any] = {"cond": cond, "key": key, "step_noise": step_noise}
        common["return_trajectory"] = return_trajectory
        if self.sequential:
            return sample_sequential(model_fn, params, noise, solver, **common).checked(throw)
        return sample_picard(
            model_fn,
            params,
            noise,
            solver,
            window=self.window,
            microbatch=self.microbatch,
            tol=self.tol if tol is None else tol,
            linearization=linearization,
            certificate=certificate,
            prior=prior,
            adapter=adapter,
            switch=switch,
            executor=executor,
            throw=throw,
            **common,
        )

    def scan(
        self,
        step: Step,
        init: PyTree,
        xs: PyTree = None,
        *,
        length: int | None = None,
        batch_axis: int | None = None,
        tol: float | None = None,
        return_trajectory: bool = False,
        throw: bool = False,
        **options: Any,
    ) -> ScanOutput:
        """`pcm_jax.scan` with this window and microbatch, or `jax.lax.scan` where that is faster.

        Arguments as of `pcm_jax.scan`, of which `options` takes linearization, certificate, guess, adapter_step, switch
        and executor; tol: None is the plan's.

        Raises:
            ValueError: another number of steps, a plan of `pcm_jax.tune`, or arguments that do not fit.
        """
        self._check("scan", "Plan.sample")
        known = {"linearization", "certificate", "guess", "adapter_step", "switch", "executor"}
        if unknown := sorted(set(options) - known):
            raise ValueError(f"Plan.scan has no option {unknown[0]!r}; it has {', '.join(sorted(known))}")
        common: dict[str, Any] = {"length": length, "batch_axis": batch_axis, "return_trajectory": return_trajectory}
        self._same_steps(check_length(xs, length), "this scan")
        if self.sequential:
            return scan_sequential(step, init, xs, **common).checked(throw)
        how: dict[str, Any] = {"window": self.window, "microbatch": self.microbatch, "throw": throw}
        return scan(step, init, xs, tol=self.tol if tol is None else tol, **how, **common, **options)

    def _check(self, subject: str, other: str) -> None:
        if self.subject != subject:
            raise ValueError(f"this plan was made for a {self.subject}; call {other}")

    def _same_steps(self, steps: int, name: str) -> None:
        if steps != self.steps:
            raise ValueError(f"this plan is for {self.steps} steps, {name} has {steps}; tune for it again")

    def plot(self, path: str | Path | None = None) -> Figure:
        """Seconds against the window, measured and predicted, beside the rows curve; also written to `path`.

        Raises:
            ImportError: without matplotlib.
        """
        from pcm_jax.tuning.plot import draw

        return draw(self, path)

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all."""
        content = {"kind": KIND} | dataclasses.asdict(self)
        write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """The plan that `save` wrote.

        Raises:
            ValueError: a file that is no plan, naming it and the key that is wrong.
        """
        return cls(**read_fields(Path(path)))
