"""Every test runs strict, on eight CPU devices. PCM_JAX_TEST_PLATFORM=cuda (or tpu) runs the suite there instead."""

import gc
import os
from pathlib import Path

# The test processes share the cores, and BLAS's threads of small products wait more than they compute. NumPy reads this
# when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import hypothesis
import jax
import pytest

# The suite compiles thousands of small programs and runs each once or twice: LLVM does as little as it can. XLA reads
# this when it starts, with the first array.
_FLAGS = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
# Kernels made without MLIR, and one module for each program: three times as quick to compile, but fused otherwise than
# users' programs are. `make test-all` leaves XLA its own; it too compiles with the two flags above, so with less LLVM.
if os.environ.get("PCM_JAX_TEST_QUICK", "1") != "0":
    _FLAGS += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS]).strip()

PLATFORM = os.environ.get("PCM_JAX_TEST_PLATFORM", "cpu")
# The CPU stays available behind an accelerator; the first platform named is the default one.
jax.config.update("jax_platforms", PLATFORM if PLATFORM == "cpu" else f"{PLATFORM},cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# What one process has compiled the other one reads, and so does the next run; `make clean` removes it.
CACHE = os.environ.get("PCM_JAX_TEST_CACHE") or str(Path(__file__).parents[1] / ".pytest_cache" / "jax")
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
# And those that a test starts.
os.environ |= {"JAX_COMPILATION_CACHE_DIR": CACHE, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}

# No deadline: the first example of a shape compiles. Compilation also makes examples slow without a fault of theirs.
_COMMON = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("explore", max_examples=20, **_COMMON)
hypothesis.settings.register_profile("ci", max_examples=20, derandomize=True, print_blob=True, **_COMMON)
hypothesis.settings.register_profile("fast", max_examples=3, derandomize=True, **_COMMON)


_MAPPINGS = 30_000
"""Of memory, that a process may have before it drops what it compiled: Linux allows 65,530, each program takes some."""


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """A process that runs out of mappings is aborted in the middle of a compilation."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_text().splitlines()) > _MAPPINGS:
        jax.clear_caches()


def pytest_configure(config) -> None:
    """`-m fast` draws few examples, CI the same ones each time, a person at a terminal new ones."""
    ordinary = "ci" if os.environ.get("CI") else "explore"
    hypothesis.settings.load_profile("fast" if config.option.markexpr == "fast" else ordinary)


def pytest_collection_finish() -> None:
    """Tracing makes objects by the thousand, and what is imported by now stays: look for garbage a tenth as often."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
