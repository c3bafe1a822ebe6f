"""ONNX Runtime: execution providers, sessions and feature extraction."""
