"""One page with everything to look at: samples after each round, convergence, tables."""
