"""The samplers under comparison, as policies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pcm_jax import schedules, solvers
from pcm_jax.policy import Policy
from pcm_jax.pretrained import PretrainedAdapter

TOL = 5e-4
"""Of exact decisions, in units of the noise of a step."""

ROUNDS = {False: (1, 2, 3, 4, 6, 8), True: (2, 4, 8)}
"""Fixed numbers of them, for a cold and for a warm start."""


@dataclasses.dataclass(frozen=True)
class Method:
    """kind: sequential, ddim, picard or pcm. rounds: fixed, or None to run to the certificate.

    warm: the last decision is the first guess of the next one.
    """

    name: str
    kind: str
    rounds: int | None = None
    warm: bool = False

    @property
    def exact(self) -> bool:
        """Whether it must act as sequential DDPM does."""
        return self.kind == "sequential" or (self.kind in ("picard", "pcm") and self.rounds is None)

    def apply(self, policy: Policy, adapter: PretrainedAdapter | None) -> Policy:
        """`policy` with this sampler; a ValueError if PCM has no adapter."""
        if self.kind == "sequential":
            return policy.sequential()
        if self.kind == "ddim":
            steps = len(policy.solver)
            few = solvers.ddim(schedules.cosine_vp(steps), 16, clip=policy.solver.clip, spacing="trailing")
            return dataclasses.replace(policy.sequential(), solver=few)
        options: dict[str, Any] = {"tol": TOL} if self.rounds is None else {"tol": TOL, "max_rounds": self.rounds}
        if self.kind == "picard":
            return policy.picard(**options)
        if adapter is None:
            raise ValueError(
                f"no adapter of policy {policy.name} is there; make one with: python -m experiments.robots train-pcm "
                f"--policy {policy.name}"
            )
        if self.rounds is not None:
            options["preview"] = adapter.preview
        return policy.picard(adapter=adapter.adapter, switch=adapter.switch, **options)


def _methods() -> dict[str, Method]:
    found = [Method("DDPM-100", "sequential"), Method("DDIM-16", "ddim")]
    for kind, title in (("picard", "Picard"), ("pcm", "PCM")):
        for warm in (False, True):
            suffix = ", warm" if warm else ""
            found.append(Method(f"{title}{suffix}", kind, None, warm))
            found += [Method(f"{title}, {rounds} rounds{suffix}", kind, rounds, warm) for rounds in ROUNDS[warm]]
    return {method.name: method for method in found}


METHODS: Mapping[str, Method] = _methods()
"""All of them run with the secant, the default slope; PCM of a fixed number of rounds shows its preview."""
