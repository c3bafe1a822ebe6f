"""Compiled kernels: convolution, pooling, Gram products, and the SIMD and threads below them."""
