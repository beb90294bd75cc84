"""One module a study: config -> run -> experiments/results/*.json -> tables and plots."""
