"""What a round costs on this machine: overhead, kernels, rounds of every solver, cost per device, memory."""
