"""Content, style, total variation and temporal losses, and the objective that sums them."""
