"""One module a study: config -> run -> experiments/results/*.json -> tables and plots."""

import time

STARTED = time.perf_counter()
"""When the process began on an experiment: JAX's import is part of what a user waits for."""
