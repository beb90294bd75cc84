"""Does the error bound hold: on the shipped models, and on random ones in which nothing is kind."""
