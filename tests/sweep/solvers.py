"""Schedules and solvers."""

import pcm_jax as pcm
from pcm_jax import solvers
from tests import problems
from tests.sweep.kinds import (
    INF,
    NAN,
    NOT_NUMBERS,
    Kind,
    array,
    choice,
    entry,
    flag,
    instance,
    number,
    positive,
    whole,
)

VP, FLOW, EDM = problems.VP, problems.FLOW, problems.EDM


def sampler(make, schedule=VP, **swept):
    return entry(
        make, "spacing", schedule=instance(schedule), num_steps=whole(8), offset=whole(0, 0), prediction=choice("data"),
        clip=positive(1.0, optional=True), **swept,
    )  # fmt: skip


SCHEDULES = {
    "schedules.linear_vp": entry(
        pcm.schedules.linear_vp, num_train_steps=whole(10), beta_start=number(1e-4, 0, 1, out=(0.0, 1.0)),
        beta_end=number(0.02, 0, 1, out=(0.0, 1.0)), final_alpha_one=flag(False),
    ),
    "schedules.scaled_linear_vp": entry(
        pcm.schedules.scaled_linear_vp, num_train_steps=whole(10), beta_start=number(1e-4, 0, 1, out=(0.0, 1.0)),
        beta_end=number(0.02, 0, 1, out=(0.0, 1.0)), final_alpha_one=flag(False),
    ),
    "schedules.cosine_vp": entry(
        pcm.schedules.cosine_vp, num_train_steps=whole(10), max_beta=number(0.9, 0, 1, out=(0.0,)),
        final_alpha_one=flag(False),
    ),
    "schedules.rectified_flow": entry(
        pcm.schedules.rectified_flow, "spacing", shift=positive(1.0), num_train_steps=whole(100, optional=True),
    ),
    "schedules.RectifiedFlow": entry(
        pcm.schedules.RectifiedFlow, "spacing", shift=positive(1.0), num_train_steps=whole(100, optional=True),
    ),
    "schedules.edm": entry(
        pcm.schedules.edm, "spacing", sigma_min=positive(0.002), sigma_max=positive(80.0), rho=positive(7.0),
        sigma_data=positive(0.5), log_mean=number(-1.2), log_std=positive(1.2),
    ),
    "schedules.EDM": entry(
        pcm.schedules.EDM, "spacing", sigma_min=positive(0.002), sigma_max=positive(80.0), rho=positive(7.0),
        sigma_data=positive(0.5), log_mean=number(-1.2), log_std=positive(1.2),
    ),
    "schedules.VP": entry(
        pcm.schedules.VP, "spacing", alphas_cumprod=array((0.9, 0.5)), final_alpha_one=flag(False),
    ),
    "schedules.zero_terminal_snr": entry(pcm.schedules.zero_terminal_snr, schedule=instance(VP)),
}  # fmt: skip
SOLVERS = {
    "solvers.ddim": sampler(solvers.ddim, eta=number(0.0, 0), clipped_noise=flag(False)),
    "solvers.ddpm": sampler(solvers.ddpm, variance=choice("fixed_small")),
    "solvers.deis": sampler(solvers.deis, order=whole(2, 1, 4), lower_order_final=flag(True, optional=True)),
    "solvers.dpm2": sampler(solvers.dpm2, ancestral=flag(False)),
    "solvers.dpm_solver_pp": sampler(
        solvers.dpm_solver_pp, order=whole(2, 1, 3), kind=choice("midpoint"), integrates=choice("data"),
        sde=flag(False), lower_order_final=flag(True, optional=True), first_order_last=flag(False, optional=True),
    ),
    "solvers.edm_stochastic": entry(
        solvers.edm_stochastic, "spacing", "gamma", schedule=instance(EDM), num_steps=whole(8), order=whole(2, 1, 2),
        s_churn=number(10.0, 0), s_tmin=number(0.05, 0),
        s_tmax=Kind(50.0, (NAN, -INF, True, -0.5, 0.0, None, *NOT_NUMBERS)),
        s_noise=positive(1.0),
        step_scale=positive(1.0), prediction=choice("data"), clip=positive(None, optional=True), offset=whole(0, 0),
    ),
    "solvers.euler": sampler(solvers.euler, FLOW, stochastic=flag(False)),
    "solvers.euler_ancestral": sampler(solvers.euler_ancestral, eta=number(1.0, 0)),
    "solvers.heun": sampler(solvers.heun),
    "solvers.lms": sampler(solvers.lms, order=whole(4, 1, 4)),
    "solvers.pndm": entry(
        solvers.pndm, "spacing", "stride", schedule=instance(VP), num_steps=whole(8), skip_prk_steps=flag(True),
        prediction=choice("epsilon"), offset=whole(0, 0),
    ),
    "solvers.unipc": sampler(
        solvers.unipc, order=whole(2, 1, 6), kind=choice("bh2"), integrates=choice("data"),
        lower_order_final=flag(True),
        uncorrected=Kind((0,), (3, "a", (2.5,), (-1,), ("a",))),
    ),
    "solvers.alphafold3": entry(
        solvers.alphafold3, num_steps=whole(8), step_scale=positive(1.5), clip=positive(None, optional=True),
    ),
    "solvers.by_name": entry(
        solvers.by_name, name=choice("ddim"), schedule=instance(VP), num_steps=whole(8),
    ),
    "solvers.dynamic_threshold": entry(
        solvers.dynamic_threshold, ratio=number(0.9, 0, 1, out=(0.0,)), max_value=number(2.0, 1),
    ),
}  # fmt: skip
