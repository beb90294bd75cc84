"""A diffusion policy in real simulators: demonstrations, training, PCM, evaluation, latency."""
