"""The samplers under comparison, as policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.common.study import SLOPES, tuned
from pcm_jax import schedules, solvers
from pcm_jax.policy import Policy
from pcm_jax.pretrained import PretrainedAdapter

TOL = 1e-3
"""Of exact decisions: RMS of the actions, whose range is 2."""


class Kind(NamedTuple):
    """A sampler. slope: of the round. rounds: fixed numbers of them, for a cold and for a warm start. prior: whether a
    cold start is the policy's prior, and not copies of the noise.

    Plain Picard starts cold alone: a guess saves rounds of the others in the same way.
    """  # noqa: D205

    slope: str
    rounds: tuple[int, ...]
    warm: tuple[int | None, ...] = ()
    prior: bool = False
    tuned: bool = False


KINDS = {
    "Picard": Kind("identity", (8, 16, 20, 24)),
    "Picard + secant": Kind("secant", (2, 4, 6, 8), (None, 4)),
    "secant + prior": Kind("secant", (1, 2, 3, 4, 6), (None, 2, 4), prior=True),
    "PCM + secant": Kind("secant", (2, 3, 4, 6, 8), (None, 4), tuned=True),
}
"""The paper's baseline, the default slope, the policy's default start, and PCM-LoRA."""


@dataclasses.dataclass(frozen=True)
class Method:
    """kind: "DDPM", "DDIM" or one of KINDS. rounds: fixed, or None to run to the certificate.

    warm: the last decision is the first guess of the next one.
    """

    name: str
    kind: str
    rounds: int | None = None
    warm: bool = False

    @property
    def parallel(self) -> bool:
        """Whether it samples in rounds."""
        return self.kind in KINDS

    @property
    def exact(self) -> bool:
        """Whether it must act as sequential DDPM does."""
        return self.kind == "DDPM" or (self.parallel and self.rounds is None)

    def apply(self, policy: Policy, adapter: PretrainedAdapter | None) -> Policy:
        """`policy` with this sampler; a ValueError if PCM has no adapter."""
        if self.kind == "DDPM":
            return policy.sequential()
        if self.kind == "DDIM":
            steps = len(policy.solver)
            few = solvers.ddim(schedules.cosine_vp(steps), 16, clip=policy.solver.clip, spacing="trailing")
            return dataclasses.replace(policy.sequential(), solver=few)
        kind = KINDS[self.kind]
        options: dict[str, Any] = {"tol": TOL, "linearization": SLOPES[kind.slope]}
        if self.rounds is not None:
            options["max_rounds"] = self.rounds
        if not kind.tuned:
            if kind.prior and self.rounds is not None:
                options["preview"] = policy.preview
            return policy.picard(prior=policy.prior if kind.prior else None, **options)
        if adapter is None:
            raise ValueError(
                f"no adapter of policy {policy.name} is there; make one with: python -m experiments.robots train-pcm "
                f"--policy {policy.name}"
            )
        if self.rounds is not None:
            options["preview"] = adapter.preview
        return policy.picard(**tuned(adapter, policy.prior), **options)


def _methods() -> dict[str, Method]:
    found = [Method("DDPM-100", "DDPM"), Method("DDIM-16", "DDIM")]
    for name, kind in KINDS.items():
        starts = [(rounds, False) for rounds in (None, *kind.rounds)] + [(rounds, True) for rounds in kind.warm]
        for rounds, warm in starts:
            title = name + (f", {rounds} rounds" if rounds else "") + (", warm" if warm else "")
            found.append(Method(title, name, rounds, warm))
    return {method.name: method for method in found}


METHODS: Mapping[str, Method] = _methods()
"""A fixed number of rounds from the prior, or of PCM, shows its preview."""
