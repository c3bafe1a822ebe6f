"""Compiled kernels: convolution, pooling, Gram matrices, and the SIMD and threads below them."""
