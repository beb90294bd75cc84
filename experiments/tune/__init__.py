"""Which window is fastest here, and whether the plan keeps its promise."""
