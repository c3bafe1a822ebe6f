"""VGG19 in PyTorch, its forward and backward passes in bands, tiles and sections."""
