"""Films: optical flow and frames that follow one another."""
