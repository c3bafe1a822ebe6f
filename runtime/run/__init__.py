"""One run: inputs, the optimisation loop, events, checkpoints and the result."""
