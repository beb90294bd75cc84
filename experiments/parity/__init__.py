"""Against other people's code: imported networks, schedulers and metrics."""
