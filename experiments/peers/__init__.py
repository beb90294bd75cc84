"""Every published way to sample in parallel, from its formulas, on the same networks and noises."""
