"""3x3 convolutions of bands of rows, by the algorithm that is quickest on the machine."""

from nstrt.runtime.convolution.choice import Chooser, band_for
from nstrt.runtime.convolution.kernels import Filter, Kernel, is_windowed
from nstrt.runtime.convolution.scratch import Scratch

__all__ = ["Chooser", "Filter", "Kernel", "Scratch", "band_for", "is_windowed"]
