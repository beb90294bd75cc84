"""The commands that make the shipped models and their priors, and what is known of their size and quality."""
