"""Engines compute features, losses and gradients; evaluation, targets and the choice of one."""
