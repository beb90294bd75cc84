"""Every public name: how it is called, and what its parameters mean."""

from tests.sweep import networks, small, solvers, trainers

ENTRIES = {**solvers.SCHEDULES, **solvers.SOLVERS, **networks.NETWORKS, **small.SMALL, **trainers.ENTRIES}
