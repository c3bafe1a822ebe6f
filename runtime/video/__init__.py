"""Film frames: optical flow, and the previous frame's painting warped to the next."""
