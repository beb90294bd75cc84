"""What every study uses: the shipped models' solvers and methods, results as JSON, plots."""
