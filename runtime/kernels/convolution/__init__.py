"""3x3 convolutions of bands of rows, by the algorithm that is fastest on the machine."""

from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution.autotune import Autotuner, band_for
from nstrt.runtime.kernels.convolution.filter import Filter, Kernel, is_windowed

__all__ = ["Autotuner", "BufferPool", "Filter", "Kernel", "band_for", "is_windowed"]
