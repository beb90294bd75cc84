"""Picard consistency models: training the shipped adapters, and what they gain over Picard."""
