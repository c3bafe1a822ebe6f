"""Picture comparison, grid search over options, contact sheets and the system report."""
