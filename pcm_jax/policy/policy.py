"""A diffusion policy: what was seen -> a chunk of actions, drawn by the sampler of your choice."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pcm_jax import checks
from pcm_jax.data.robots import Normalizer
from pcm_jax.policy.decision import Decision, How, decide, draw_noise, seen
from pcm_jax.policy.vision import Vision
from pcm_jax.priors import GaussianPrior
from pcm_jax.sampling import sample_picard
from pcm_jax.sampling.callables import check_network
from pcm_jax.sampling.preview import MeasuredRows
from pcm_jax.solvers import Solver
from pcm_jax.switching import Adapter
from pcm_jax.tuning import Plan, tune
from pcm_jax.types import Array, ArrayLike, ModelFn, Params

_TUNED = ("tol", "linearization", "certificate", "switch", "executor")
"""Options of `picard` that a plan is made for."""


_ASIDE = {"window", "microbatch", "stats", "throw", "return_trajectory", "return_rounds"}
"""Options that a plan replaces, or that change nothing that is returned of the actions."""


@dataclasses.dataclass(frozen=True, eq=False)
class Policy:
    """Diffusion Policy (arXiv 2303.04137): every `action_horizon` steps a chunk of actions is sampled.

    model_fn: `(params, x [B, horizon, A], t [B], observations [B, obs_horizon, O]) -> prediction`, normalised.
    solver: the sampler's table. observation, action: normalisers fitted on the demonstrations.
    vision: encodes images, once for every decision; observation is then of the numbers beside them.
    obs_horizon: observations that a decision sees. The chunk begins with the first of them: its action number
        obs_horizon - 1 is the one for now, and the first that is carried out.
    prior: the first guess of `picard`, a Gaussian fit of the policy's chunks whose mean is linear in the observations.
    preview: rows for decisions that end early, `picard(max_rounds=k, preview=policy.preview)`, measured from the prior.
    adapter: a fine-tuned model beside `params`, see `sample_picard`.
    options: further arguments of `sample_picard`; None samples sequentially.

    Example:
        policy = pcm_jax.pretrained.load_policy("pusht")
        fast = policy.picard(tol=1e-2)
        decision = fast.act(history, jax.random.key(0))
    """

    name: str
    model_fn: ModelFn
    params: Params
    solver: Solver
    observation: Normalizer
    action: Normalizer
    obs_horizon: int = 2
    horizon: int = 16
    action_horizon: int = 8
    prior: GaussianPrior | None = None
    preview: MeasuredRows | None = None
    adapter: Adapter | None = None
    options: Mapping[str, Any] | None = None
    vision: Vision | None = None

    def __post_init__(self) -> None:
        for name in ("obs_horizon", "horizon", "action_horizon"):
            checks.whole(name, getattr(self, name))
        for name in ("observation", "action"):
            if not isinstance(getattr(self, name), Normalizer):
                raise ValueError(f"{name} must be a Normalizer of the demonstrations, got {getattr(self, name)!r}")
        if self.preview is not None and not isinstance(self.preview, MeasuredRows):
            raise ValueError(
                f"preview must be MeasuredRows, which pcm_jax.training.measure_preview returns, got "
                f"{checks.shown(self.preview)}; rows of your own go to picard(preview=..)"
            )
        if not isinstance(self.solver, Solver):
            raise ValueError(f"solver must be a pcm_jax.solvers table, got {checks.shown(self.solver)}")
        if self.obs_horizon - 1 + self.action_horizon > self.horizon:
            raise ValueError(
                f"a chunk of {self.horizon} actions has {self.horizon - self.obs_horizon + 1} from now on, "
                f"action_horizon is {self.action_horizon}; carry out fewer or predict a longer horizon"
            )
        if self.options is not None:
            _check_options(self.options)
        if self.vision is None:
            # A chunk of this shape under observations of this shape, before anything is compiled.
            noise = np.zeros((1, self.horizon, self.action.size), np.float32)
            seen = np.zeros((1, self.obs_horizon, self.observation.size), np.float32)
            check_network(self.model_fn, self.params, noise, seen)

    def with_solver(self, solver: Solver) -> Policy:
        """The same policy with another sampler's table: another method, or another number of steps.

        Example:
            scheduler = pcm_jax.pretrained.lerobot_scheduler(folder, "DDIMScheduler")
            policy.with_solver(scheduler.solver(10)).picard(tol=1e-2)
        """
        if not isinstance(solver, Solver):
            raise ValueError(f"solver must be a pcm_jax.solvers table, got {type(solver).__name__}")
        return dataclasses.replace(self, solver=solver)

    def sequential(self) -> Policy:
        """The same policy, sampled step by step."""
        return dataclasses.replace(self, adapter=None, options=None)

    def picard(self, *, adapter: Adapter | None = None, **options: Any) -> Policy:
        """The same policy, sampled by `sample_picard(.., **options)`.

        It starts from the policy's prior; prior=None starts from copies of the noise, as an adapter wants to that was
        trained without the prior (`PretrainedAdapter.from_prior`).
        """
        prior = options.pop("prior", self.prior)
        return dataclasses.replace(self, adapter=adapter, prior=prior, options=options)

    def tune(
        self,
        history: ArrayLike | Mapping[str, ArrayLike],
        key: Array,
        *,
        memory: int | None = None,
        seconds: float = 30.0,
        progress: bool = True,
    ) -> Plan:
        """Measure on this device which window decides fastest, or that the sequential sampler does.

        The tolerance, prior, adapter and switch are those of `picard`, of whose other options window and microbatch are
        what is looked for; a sequential policy is tuned as `picard()` with its defaults would run.

        Args:
            history, key: as for `act`, of as many robots as will decide at once.
            memory, seconds, progress: as for `pcm_jax.tune`.

        Raises:
            ValueError: arguments that do not fit, or options that change what a round is for: max_rounds, preview.

        Example:
            policy = policy.with_plan(policy.tune(history, jax.random.key(0)))
        """
        lead = self._lead_and_keys(history, key)
        options = dict(self.options or {})
        kept = {name: options.pop(name) for name in _TUNED if name in options}
        if odd := sorted(set(options) - _ASIDE):
            raise ValueError(
                f"a policy with the option {odd[0]} ends before its actions are certified: tune it without"
            )
        history = jax.tree.map(jnp.asarray, dict(history) if isinstance(history, Mapping) else history)
        if len(lead) == 1:
            history, key = jax.tree.map(lambda leaf: leaf[None], history), key[None]
        noise, z = draw_noise(key, self.solver, (self.horizon, self.action.size))
        cond = seen(self.observation, self.vision, history)
        how: dict[str, Any] = {"memory": memory, "seconds": seconds, "progress": progress} | kept
        how |= {"prior": self.prior, "adapter": self.adapter, "step_noise": z}
        return tune(self.model_fn, self.params, noise, self.solver, cond=cond, **how)

    def with_plan(self, plan: Plan) -> Policy:
        """The same policy as a plan of `tune` says: with its window and microbatch, or sequential.

        Raises:
            ValueError: a plan for another number of steps, or of a scan.
        """
        if not isinstance(plan, Plan) or plan.subject != "sample" or plan.steps != len(self.solver):
            raise ValueError(
                f"plan must be one of Policy.tune for the {len(self.solver)} steps of {self.solver.name}, got "
                f"{f'one of {plan.steps} steps' if isinstance(plan, Plan) else checks.shown(plan)}; tune this policy"
            )
        if plan.options is None:
            return self.sequential()
        return dataclasses.replace(self, options=dict(self.options or {}) | plan.options)

    def act(
        self, history: ArrayLike | Mapping[str, ArrayLike], key: Array, previous: Decision | None = None
    ) -> Decision:
        """Sample a chunk of actions; compiled at the first call.

        Args:
            history: the last observations, newest last, `[obs_horizon, O]` in the robot's units; or `[B, ..]`. A policy
                with vision takes a mapping of them, with images, see `Vision.lead`.
            key: draws the chunk; for a batch `[B]` keys, so that a decision does not depend on its neighbours.
            previous: the last decision, all of whose actions were carried out. Moved on by them, it is this one's
                first guess, or the mean of it when there is a prior: fewer rounds, the same actions. The sequential
                sampler has no use for it.

        Raises:
            ValueError: a history of another length or width, or another number of keys.
        """
        single = len(self._lead_and_keys(history, key)) == 1
        if previous is not None and not isinstance(previous, Decision):
            raise ValueError(f"previous must be the last Decision of this policy, got {checks.shown(previous)}")
        history = jax.tree.map(jnp.asarray, dict(history) if isinstance(history, Mapping) else history)
        how = How(
            self.model_fn,
            (self.horizon, self.action.size),
            self.obs_horizon - 1,
            self.action_horizon,
            None if self.options is None else tuple(sorted(self.options.items())),
        )
        arrays = (self.params, self.adapter, self.prior, self.solver, self.observation, self.action, self.vision)
        plan = None if previous is None or self.options is None else previous.plan
        if not single:
            return decide(how, *arrays, history, key, plan)
        alone = jax.tree.map(lambda leaf: leaf[None], history)
        one = decide(how, *arrays, alone, key[None], None if plan is None else plan[None])
        return Decision(one.actions[0], one.plan[0], one.out)

    def _lead_and_keys(self, history: Any, key: Any) -> tuple[int, ...]:
        """Of `_lead`; ValueError for another number of keys."""
        lead = self._lead(history)
        if not checks.keys_of(key, lead[:-1]):
            found = jnp.shape(key) if isinstance(key, jax.Array) else checks.shown(key)
            raise ValueError(
                f"history {lead} needs keys of shape {lead[:-1]}, got {found}; they are PRNG keys such as "
                "jax.random.key(0) or jax.random.split(key, B)"
            )
        return lead

    def _lead(self, history: Any) -> tuple[int, ...]:
        """`(obs_horizon,)` or `(B, obs_horizon)`; ValueError for a history that does not fit."""
        if self.vision is not None:
            return self.vision.lead(history, self.obs_horizon)
        try:
            shape = np.shape(jnp.asarray(history, jnp.float32))
        except (TypeError, ValueError) as error:
            raise ValueError(f"history must be an array of observations, got {checks.shown(history)}") from error
        if len(shape) not in (2, 3) or shape[-2] != self.obs_horizon:
            raise ValueError(
                f"history must be [{self.obs_horizon}, O] or [B, {self.obs_horizon}, O], got {shape}; repeat the "
                "first observation at the beginning of an episode"
            )
        self.observation.check(history)
        return shape[:-1]


def _check_options(options: Any) -> None:
    """Arguments of `sample_picard` that a policy does not give itself."""
    if not isinstance(options, Mapping):
        raise ValueError(f"options must be a mapping of arguments of sample_picard, got {options!r}")
    own = {"model_fn", "params", "noise", "solver", "cond", "key", "step_noise", "init", "adapter", "prior"}
    known = sorted(set(inspect.signature(sample_picard).parameters) - own)
    for name in options:
        if name not in known:
            raise ValueError(f"a policy's sample_picard has no option {name!r}; it has {', '.join(known)}")
