"""The first thing to run: the same samples as the sequential sampler's, in fewer rounds."""
