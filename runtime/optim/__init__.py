"""Optimisers of the image: Adam and L-BFGS."""
