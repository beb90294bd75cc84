"""Every public name: how it is called, and what its parameters mean; or why nothing of it is swept here."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from pcm_jax import guidance, networks, solvers, training
from pcm_jax.data import robots
from pcm_jax.networks import diffusers
from pcm_jax.pretrained import ModelConfig, PolicyConfig
from tests import problems
from tests.sweep import trainers
from tests.sweep.kinds import (
    INF,
    NAN,
    NOT_NUMBERS,
    Kind,
    array,
    choice,
    entry,
    flag,
    function,
    instance,
    number,
    positive,
    whole,
    widths,
)

VP, FLOW, EDM = problems.VP, problems.FLOW, problems.EDM
KEY = jax.random.key(0)
KERNEL = {"dense": {"kernel": jnp.ones((4, 6))}}
PRIOR_SAMPLES = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


def model(params, x, t, cond):
    return params * x


def init(module, x, *told):
    """Shapes of a network's parameters: what it refuses, it refuses when it is traced."""
    return jax.eval_shape(module.init, KEY, x, *told)


def network(kind, size, cond=None, **swept):
    """A network is swept when it is initialised."""

    def call(**fields):
        return init(kind(**fields), jnp.zeros((1, *size)), jnp.zeros(1), cond)

    return entry(call, "dtype", "parent", "name", of=kind, **swept)


def sampler(make, schedule=VP, **swept):
    return entry(
        make, "spacing", schedule=instance(schedule), num_steps=whole(8), offset=whole(0, 0), prediction=choice("data"),
        clip=positive(1.0, optional=True), **swept,
    )  # fmt: skip


UNET = {
    "in_channels": whole(3),
    "out_channels": whole(3),
    "center_input_sample": flag(False),
    "flip_sin_to_cos": flag(True),
    "freq_shift": number(0),
    "block_out_channels": widths((8,)),
    "layers_per_block": whole(1),
    "downsample_padding": whole(1, 0),
    "mid_block_scale_factor": positive(1),
    "act_fn": choice("silu"),
    "norm_num_groups": whole(4),
    "norm_eps": positive(1e-5),
    "class_embed_type": choice(None, optional=True),
    "num_class_embeds": whole(None, optional=True),
    "resnet_time_scale_shift": choice("default"),
    "time_embedding_type": choice("positional"),
    "time_embedding_dim": whole(None, optional=True),
}
CODER = {
    "in_channels": whole(3),
    "out_channels": whole(3),
    "down_block_types": choice(("DownEncoderBlock2D",)),
    "up_block_types": choice(("UpDecoderBlock2D",)),
    "block_out_channels": widths((8,)),
    "layers_per_block": whole(1),
    "act_fn": choice("silu"),
    "norm_num_groups": whole(4),
    "mid_block_add_attention": flag(False),
    "scaling_factor": positive(0.2),
    "latent_channels": whole(3),
}
TEXT = jnp.zeros((1, 2, 8))


def coder(kind, **swept):
    def call(**fields):
        return init(kind(**fields), jnp.zeros((1, 4, 4, 3)))

    return entry(call, "dtype", "parent", "name", of=kind, **CODER, **swept)


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
NETWORKS = {
    "networks.ResidualMLP": network(
        networks.ResidualMLP, (6,), width=whole(8, 2), depth=whole(1), expansion=whole(1), num_classes=whole(0, 0),
        time_scale=positive(1.0), observations=flag(False),
    ),
    "networks.UNet2D": network(
        networks.UNet2D, (8, 8, 1), channels=widths((8,)), blocks=whole(1), patch=whole(1), num_heads=whole(1),
        num_classes=whole(0, 0), time_scale=positive(1.0), attention=Kind((), (3, "a", (2.5,), (-1,), (7,), None)),
    ),
    "networks.ConditionalUNet1D": network(
        networks.ConditionalUNet1D, (8, 2), channels=widths((8,)), embed=whole(8, 2), kernel_size=whole(3),
        groups=whole(4), out_groups=whole(None, optional=True), film_scale=flag(True),
    ),
    "networks.diffusers.UNet2DModel": network(
        diffusers.UNet2DModel, (8, 8, 3), down_block_types=choice(("DownBlock2D",)),
        mid_block_type=choice("UNetMidBlock2D", optional=True), up_block_types=choice(("UpBlock2D",)),
        downsample_type=choice("conv"), upsample_type=choice("conv"), attention_head_dim=whole(8, optional=True),
        attn_norm_num_groups=whole(None, optional=True), add_attention=flag(True),
        num_train_timesteps=whole(None, optional=True), **UNET,
    ),
    "networks.diffusers.UNet2DConditionModel": network(
        diffusers.UNet2DConditionModel, (8, 8, 3), TEXT, down_block_types=choice(("CrossAttnDownBlock2D",)),
        mid_block_type=choice("UNetMidBlock2DCrossAttn", optional=True), up_block_types=choice(("CrossAttnUpBlock2D",)),
        only_cross_attention=flag(False), cross_attention_dim=whole(8), transformer_layers_per_block=whole(1),
        reverse_transformer_layers_per_block=Kind(None, (3, "a", (2.5,), (0,))),
        encoder_hid_dim=whole(None, optional=True), encoder_hid_dim_type=choice(None, optional=True),
        attention_head_dim=whole(4), use_linear_projection=flag(False),
        projection_class_embeddings_input_dim=whole(None, optional=True), class_embeddings_concat=flag(False),
        addition_embed_type=choice(None, optional=True), addition_time_embed_dim=whole(None, optional=True),
        resnet_skip_time_act=flag(False), resnet_out_scale_factor=positive(1.0),
        time_embedding_act_fn=choice(None, optional=True), timestep_post_act=choice(None, optional=True),
        conv_in_kernel=whole(3), conv_out_kernel=whole(3), **UNET,
    ),
    "networks.diffusers.DiTTransformer2DModel": network(
        diffusers.DiTTransformer2DModel, (8, 8, 4), jnp.zeros(1, jnp.int32), num_attention_heads=whole(2),
        attention_head_dim=whole(4), in_channels=whole(4), out_channels=whole(8, optional=True), num_layers=whole(1),
        attention_bias=flag(True), sample_size=whole(8), patch_size=whole(2), num_embeds_ada_norm=whole(10),
        norm_eps=positive(1e-5),
    ),
    "networks.diffusers.SD3Transformer2DModel": network(
        diffusers.SD3Transformer2DModel, (8, 8, 4), {"text": TEXT, "pooled": jnp.zeros((1, 6))},
        sample_size=whole(8), patch_size=whole(2), in_channels=whole(4), num_layers=whole(1),
        attention_head_dim=whole(4), num_attention_heads=whole(2), joint_attention_dim=whole(8),
        caption_projection_dim=whole(8), pooled_projection_dim=whole(6), out_channels=whole(4, optional=True),
        pos_embed_max_size=whole(8), dual_attention_layers=Kind((), (3, "a", (2.5,), (-1,), None)),
        qk_norm=choice(None, optional=True),
    ),
    "networks.diffusers.AutoencoderKL": coder(
        diffusers.AutoencoderKL, use_quant_conv=flag(True), use_post_quant_conv=flag(True),
        shift_factor=number(None, optional=True),
    ),
    "networks.diffusers.VQModel": coder(
        diffusers.VQModel, num_vq_embeddings=whole(16), vq_embed_dim=whole(None, optional=True),
    ),
    "networks.by_name": entry(networks.by_name, name=choice("mlp")),
    "networks.linen": entry(networks.linen, module=instance(networks.ResidualMLP(8, 1))),
    "networks.nnx": entry(networks.nnx, "module", module=Kind(None, (3, "a", None))),
    "networks.nnx_model": entry(networks.nnx_model, graphdef=Kind(None, (3, "a", None))),
    "networks.factored": entry(
        networks.factored, "lora", of=networks.factored, model_fn=Kind(None, (3, "a", None)),
        given={"lora": pcm.lora.init(KERNEL, 2, KEY)},
    ),
}  # fmt: skip
SMALL = {
    "linearization.secant": entry(pcm.linearization.secant, low=number(0.0, 0), high=positive(2.0)),
    "linearization.constant": entry(pcm.linearization.constant, value=number(0.5)),
    "switching.after": entry(pcm.switching.after, rounds=whole(2, 0)),
    "switching.linear": entry(pcm.switching.linear, stiffness=positive(1.0), rounds=whole(5)),
    "switching.frontier": entry(pcm.switching.frontier, rows_per_round=positive(2.0)),
    "switching.adaptive": entry(pcm.switching.adaptive, threshold=positive(1.0), rounds=whole(4)),
    "switching.calibrated": entry(pcm.switching.calibrated, table=array(np.ones((2, 8)))),
    "parallel.pmap": entry(pcm.parallel.pmap, "axis_name", num_devices=whole(1, optional=True)),
    "parallel.shard_map": entry(pcm.parallel.shard_map, "axis_name", mesh=whole(1, optional=True)),
    "parallel.inside": entry(pcm.parallel.inside, axis_name=Kind("i", (3, None, 2.5, ["i"]))),
    "checkpoint.Checkpoints": entry(
        pcm.checkpoint.Checkpoints, directory=Kind("a", (3, None, 2.5, ["i"])), keep=whole(2),
    ),
    "lora.init": entry(
        pcm.lora.init, params=instance(KERNEL), rank=whole(2), key=Kind(KEY, (0, None, "a", np.zeros(3, np.uint32))),
        alpha=positive(None, optional=True), select=Kind("kernel", (1, "(", 2.5)),
    ),
    "lora.merge": entry(
        pcm.lora.merge, params=instance(KERNEL), lora=instance(pcm.lora.init(KERNEL, 2, KEY)), strength=number(0.5),
    ),
    "lora.check": entry(pcm.lora.check, params=instance(KERNEL), lora=instance(pcm.lora.init(KERNEL, 2, KEY))),
    "lora.num_parameters": entry(pcm.lora.num_parameters, lora=instance(pcm.lora.init(KERNEL, 2, KEY))),
    "guidance.classifier_free": entry(
        guidance.classifier_free, model_fn=function(model), scale=number(2.0), null_cond=number(3),
    ),
    "guidance.prompt_guided": entry(guidance.prompt_guided, model_fn=function(model), scale=number(2.0)),
    "guidance.prompts": entry(
        guidance.prompts, prompt=array(jnp.ones((2, 3, 4)), nan=True), negative=array(jnp.ones((1, 3, 4)), nan=True),
    ),
    "guess.from_data": entry(
        pcm.guess.from_data, "step_noise", solver=instance(solvers.ddim(VP, 4)),
        noise=array(jnp.ones((2, 3)), nan=True), data=array(jnp.ones((2, 3)), nan=True),
    ),
    "metrics.kernel_distance": entry(
        pcm.metrics.kernel_distance, a=array(np.ones((8, 3)), nan=True), b=array(np.ones((8, 3)), nan=True),
        subsets=whole(2, 0), subset_size=whole(4), seed=whole(0, 0),
    ),
    "metrics.frechet_distance": entry(
        pcm.metrics.frechet_distance, a=instance(pcm.metrics.Moments.of(np.eye(4, 2))),
        b=instance(pcm.metrics.Moments.of(np.eye(4, 2))),
    ),
    "metrics.rms_error": entry(
        pcm.metrics.rms_error, sample=array(np.ones(3), nan=True), reference=array(np.ones(3), nan=True),
    ),
    "metrics.max_difference": entry(
        pcm.metrics.max_difference, sample=array(np.ones(3), nan=True), reference=array(np.ones(3), nan=True),
    ),
    "metrics.rounds_to": entry(
        pcm.metrics.rounds_to, errors=array([3.0, 1.0], nan=True), threshold=number(2.0),
    ),
    "metrics.time_call": entry(
        pcm.metrics.time_call, function=function(dict), repeats=whole(1), warmup=whole(0, 0),
    ),
    "metrics.paired": entry(
        pcm.metrics.paired, first=function(dict), second=function(dict), repeats=whole(1), warmup=whole(0, 0),
    ),
    "priors.fit_prior": entry(
        pcm.priors.fit_prior, "labels", "observations", samples=array(PRIOR_SAMPLES),
        num_classes=whole(None, optional=True), rank=whole(2, optional=True), ridge=number(1e-3, 0),
        shared_basis=flag(False),
    ),
    "data.batch_iterator": entry(
        pcm.data.batch_iterator, batch_size=whole(4), seed=whole(0, 0), of=pcm.data.batch_iterator,
        source=instance(pcm.data.ImageSource("toy", np.zeros((8, 2), np.uint8), np.zeros(8, np.int32), 1, 16)),
    ),
    "data.ImageSource": entry(
        pcm.data.ImageSource, images=array(np.zeros((8, 2), np.uint8)), num_classes=whole(1, 0),
        labels=array(np.zeros(8, np.int32)), max_value=whole(16), given={"name": "toy"},
    ),
    "data.robots.Normalizer": entry(
        robots.Normalizer,
        # Placeholders of JAX's trees pass.
        low=Kind(np.zeros(2), ("a", [0.0], np.full(2, "a"), np.full(2, NAN), np.zeros(3), np.full(2, 2.0))),
        high=Kind(np.ones(2), ("a", [1.0], np.full(2, "a"), np.full(2, NAN), np.ones(3), np.full(2, -1.0))),
    ),
    "pretrained.ModelConfig": entry(
        ModelConfig, "name", "network", "schedule", "parameters", prediction=choice("epsilon"),
        sample_shape=widths((4, 1)), num_classes=whole(3, 0), data_std=positive(1.0), clip=positive(1.0, optional=True),
        given={"name": "tiny", "network": {"name": "mlp"}, "schedule": {"name": "linear_vp"}, "parameters": 0},
    ),
    "pretrained.PolicyConfig": entry(
        PolicyConfig, "name", "network", "tasks", "parameters", num_steps=whole(10), observation_size=whole(3),
        action_size=whole(2), obs_horizon=whole(2), horizon=whole(8), action_horizon=whole(4),
        given={"name": "tiny", "network": {"name": "mlp"}, "tasks": ("toy",)},
    ),
    "training.Labels": entry(training.Labels, num_classes=whole(3, 0)),
    "training.OptimizerConfig": entry(
        training.OptimizerConfig, learning_rate=positive(1e-3), warmup_steps=whole(0, 0), weight_decay=number(0.0, 0),
        max_grad_norm=positive(1.0), ema_decay=number(0.9, 0, 1, out=(1.0,)),
    ),
    "training.TrainConfig": entry(
        training.TrainConfig, "directory", num_steps=whole(5), optimizer=instance(training.OptimizerConfig()),
        checkpoint_every=whole(1), log_every=whole(1), evaluate_every=whole(1), stop_at=whole(3, optional=True),
        progress=flag(False), accumulate=whole(1), data_parallel=whole(1),
    ),
    "training.FinetuneConfig": entry(
        training.FinetuneConfig, "loss", "round_weights", phases=widths((5,)), batch_size=whole(4),
        optimizer=instance(training.OptimizerConfig()), heldout=whole(4), calibration_rounds=whole(2),
        evaluate_rounds=whole(2), evaluate_every=whole(2), paper=flag(False), paper_rounds=whole(2),
        accumulate=whole(1), data_parallel=whole(1), seed=whole(0, 0),
    ),
    "training.Consistency": entry(
        training.Consistency, "factored", "linearization", model_fn=function(model), table=array(((1.0, 0.0),)),
        on_policy=flag(True), target=choice("drifts"), distance=choice("l2"), rows=whole(1, optional=True),
        late=number(0.0, 0), alpha=flag(True), unroll=whole(0, 0), dtype=choice("float32"), given={"factored": None},
    ),
    "training.update_ema": entry(
        training.update_ema, "ema", "params", "step", decay=number(0.9, 0, 1, out=(1.0,)),
        given={"ema": KERNEL, "params": KERNEL, "step": 1},
    ),
}  # fmt: skip

ENTRIES = {**SCHEDULES, **SOLVERS, **NETWORKS, **SMALL, **trainers.ENTRIES}

MADE = "the library makes it, users read it"
TYPE = "a protocol or a type"
READER = "reads files: experiments.campaigns files, and the tests of its room"
WRITER = "writes what the library made or read"
LOOP = "a part of a loop that has checked what it passes on"
NOTHING = "takes nothing that could be wrong"
APART = {
    **dict.fromkeys(
        (
            "ResultCode", "SampleOutput", "ScanOutput", "Stats", "data.ImageBatch", "data.robots.Chunk",
            "data.robots.ChunkSource", "metrics.Timing", "parallel.InsideAxis", "parallel.WindowAxis",
            "policy.Decision", "policy.Vision", "pretrained.Pretrained", "pretrained.PretrainedAdapter",
            "pretrained.diffusers.Autoencoder", "pretrained.diffusers.Denoiser", "pretrained.diffusers.Pipeline",
            "pretrained.diffusers.Scheduler", "pretrained.diffusers.Source", "networks.LinenModel",
            "networks.NNXModel", "networks.FactoredLinen", "guidance.ClassifierFree", "guidance.PromptGuided",
            "solvers.Grid", "switching.SwitchInput", "training.Base", "training.Calibration", "training.Finetuned",
            "training.Preview", "training.TrainState", "priors.GaussianPrior", "certificates.Evidence",
            "certificates.Verdict", "lora.LoRA", "linearization.History",
        ),
        MADE,
    ),
    **dict.fromkeys(
        (
            "data.BatchIterator", "data.Source", "metrics.Features", "parallel.Executor", "schedules.Schedule",
            "switching.Adapter", "switching.Switch", "certificates.Certificate", "linearization.Linearization",
        ),
        TYPE,
    ),
    **dict.fromkeys(
        (
            "data.load_folder", "data.load_source", "data.robots.load_pusht", "data.robots.load_rlds",
            "data.robots.load_robomimic", "data.robots.read_episodes", "metrics.load_features",
            "metrics.load_inception", "pretrained.load", "pretrained.load_adapter", "pretrained.load_arrays",
            "pretrained.load_lerobot", "pretrained.load_metadata", "pretrained.load_params", "pretrained.load_policy",
            "pretrained.load_prior", "pretrained.load_unet1d", "pretrained.lerobot_scheduler",
            "pretrained.diffusers.load_autoencoder", "pretrained.diffusers.load_denoiser",
            "pretrained.diffusers.load_embeddings", "pretrained.diffusers.load_lora",
            "pretrained.diffusers.load_pipeline", "pretrained.diffusers.load_scheduler", "training.read_metrics",
            "pretrained.available", "pretrained.available_adapters", "pretrained.available_policies",
            "pretrained.available_priors", "pretrained.diffusers.snapshot", "pretrained.diffusers.text_embeddings",
        ),
        READER,
    ),
    **dict.fromkeys(
        (
            "pretrained.export", "pretrained.export_policy", "pretrained.save_adapter", "pretrained.save_params",
            "pretrained.save_prior", "pretrained.diffusers.save_model", "data.robots.write_episodes",
            "pretrained.build_policy", "pretrained.diffusers.key_map",
        ),
        WRITER,
    ),
    **dict.fromkeys(
        (
            "linearization.linearise", "linearization.same_operator", "linearization.solve", "norms.difference",
            "priors.slope", "priors.start", "priors.trajectory", "priors.parallel_trajectory",
            "training.error_per_round", "training.make_step",
            "training.init_state", "norms.of_tree", "norms.largest",
            "norms.noise_units", "norms.root_mean_square", "parallel.vary_like",
        ),
        LOOP,
    ),
    **dict.fromkeys(
        (
            "Shared", "data.data_directory", "guidance.guidance_scale", "linearization.held_data",
            "linearization.held_noise", "linearization.identity", "linearization.zero", "parallel.single",
            "switching.always", "switching.never",
        ),
        NOTHING,
    ),
}  # fmt: skip

ELSEWHERE = {
    **dict.fromkeys(("sample_picard", "sample_sequential"), "tests/sampling/test_wrong_calls.py"),
    **dict.fromkeys(("switching.FeatureSpace", "switching.ParameterSpace"), "tests/sweep/test_adapters.py"),
    **dict.fromkeys(("certificates.defect_sum", "certificates.last_change"), "tests/sampling/test_wrong_calls.py"),
    "scan": "tests/scanning/test_bad_input.py",
    "solvers.Solver": "tests/sweep/test_tables.py",
    **dict.fromkeys(("policy.Controller", "policy.Normalizer"), "tests/policy/test_wrong_calls.py"),
    "policy.Policy": "tests/policy/test_wrong_calls.py",
    **dict.fromkeys(("data.robots.Demonstrations", "data.robots.Episode"), "tests/sweep/test_data.py"),
    "data.robots.chunks": "tests/sweep/test_data.py",
    "metrics.Moments": "tests/test_wrong_values.py",
    **dict.fromkeys(
        (
            "priors.check",
        ),
        "tests/priors/test_fit.py",
    ),
    **dict.fromkeys(
        (
            "training.Drawn", "training.finetune", "training.train", "training.consistency",
        ),
        "tests/training/test_wrong_calls.py",
    ),
}  # fmt: skip
"""Calls that need objects of their own: the test that makes wrong ones. It names them."""
