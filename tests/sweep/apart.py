"""Public names that are not swept by `tests.sweep.entries`, and why, or where they are."""

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
            "certificates.Verdict", "lora.LoRA", "linearization.History", "linearization.Sums", "Plan",
            "parallel.Along", "parallel.Constrained", "parallel.Layout",
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
            "pretrained.build_policy", "pretrained.diffusers.key_map", "pretrained.save_policy_config",
        ),
        WRITER,
    ),
    **dict.fromkeys(
        (
            "linearization.known", "norms.difference", "norms.from_squares", "norms.of_rows",
            "parallel.chunk_sizes", "parallel.in_chunks",
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
    "tune": "tests/tuning/test_tune.py",
    "tune_scan": "tests/tuning/test_scans_and_policies.py",
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
