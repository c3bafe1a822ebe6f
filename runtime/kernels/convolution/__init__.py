"""3x3 convolutions of bands of rows, by the algorithm that is quickest on the machine."""

from nstrt.runtime.kernels.buffers import Scratch
from nstrt.runtime.kernels.convolution.autotune import Chooser, band_for
from nstrt.runtime.kernels.convolution.filter import Filter, Kernel, is_windowed

__all__ = ["Chooser", "Filter", "Kernel", "Scratch", "band_for", "is_windowed"]
