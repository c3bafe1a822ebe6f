"""Convolutions in bands of rows, so that the buffers of one band fit a processor's caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nstrt.runtime.arrays import row_bands
from nstrt.runtime.kernels.buffers import BufferPool
from nstrt.runtime.kernels.convolution import Autotuner, Filter, Kernel, band_for, is_windowed

__all__ = ["BandedConvolution", "Check", "band_interior", "pooling_bands"]

Check = Callable[[], None]
"""Called before each band; stops the computation by raising."""

_BAND_BYTES = 32_000_000
"""Upper limit for a convolution's buffers for one band: processors' caches hold about as much."""

_BAND_PIXELS = 8192
"""Pixels of a band, at least; fewer are not worth reading a deep layer's many weights for."""

_POOLING_ROWS = 64
"""Rows of a pooling's band on a processor."""


class BandedConvolution:
    """Convolves layers in bands of rows, by the fastest kernel for each shape.

    ``precision`` is that of the products; sums are computed in ``dtype``. ``key`` stands for all
    else that the speed depends on, see :class:`Autotuner`.
    """

    def __init__(
        self, device: torch.device, dtype: torch.dtype, *, precision: str, key: str
    ) -> None:
        self.device = device
        self.dtype = dtype
        self.buffers = BufferPool(device)
        self.autotuner = Autotuner(self.buffers, precision=precision, key=key)

    def bands(self, weights: Filter, rows: int, columns: int) -> Iterator[slice]:
        """The bands of an output of ``rows`` x ``columns`` pixels, as slices of rows."""
        return row_bands(rows, self._band_height(weights, rows, columns))

    def algorithm(
        self, weights: Filter, rows: int, columns: int, *, transposed: bool, large: bool
    ) -> str:
        """The name of the kernel for an output of ``rows`` x ``columns`` pixels."""
        band = self._largest_band(weights, rows, columns)
        return self.autotuner.name(weights, *band, transposed=transposed, large=large)

    def kernel(
        self, weights: Filter, rows: int, columns: int, *, transposed: bool, large: bool
    ) -> Kernel:
        """The kernel for an output of ``rows`` x ``columns`` pixels."""
        band = self._largest_band(weights, rows, columns)
        _, kernel = self.autotuner.kernel(weights, *band, transposed=transposed, large=large)
        return kernel

    def input_band(self, kernel: Kernel, channels: int, rows: int, columns: int) -> Tensor:
        """The buffer for a kernel's input for ``rows`` x ``columns`` pixels of output. Its
        content is undefined."""
        return band_for(self.buffers, kernel, channels, rows, columns, self.dtype)

    def convolve(
        self,
        kernel: Kernel,
        source: Tensor,
        top: int,
        padding: int,
        out: Tensor,
        bias: Tensor | None = None,
        *,
        rectify: bool = False,
    ) -> bool:
        """Convolve ``source``, from its row ``top`` on, into ``out``; return whether the kernel
        applied the ReLU that ``rectify`` allows.

        Rows outside ``source`` count as zeros, and so do ``padding`` columns before it.
        """
        if is_windowed(kernel):
            kernel.window(source, top, -padding, out, bias, rectified=rectify)
            return rectify
        channels, (rows, columns) = source.shape[0], out.shape[1:]
        band = self.input_band(kernel, channels, rows, columns)
        low, high = max(0, top), min(source.shape[1], top + rows + 2)
        interior = band_interior(band, low - top, high - low, padding, source.shape[2])
        interior.copy_(source[:, low:high])
        kernel.apply(band, out, bias)
        return False

    def _largest_band(self, weights: Filter, rows: int, columns: int) -> tuple[int, int]:
        return min(rows, self._band_height(weights, rows, columns)), columns

    def _band_height(self, weights: Filter, rows: int, columns: int) -> int:
        """Rows of a band: a multiple of 12 if that many fit, else of 6, else 4.

        So bands are whole tiles of both Winograd kernels, or of the one with larger tiles.
        """
        if self.device.type != "cpu":
            return _all_rows(rows)
        # F(4x4) keeps 36 numbers for 16 pixels and each channel, of input and output.
        pixels = _BAND_BYTES / (2 * 36 / 16 * 4 * max(weights.channels))
        most = int(max(pixels, _BAND_PIXELS) / columns)
        return most // 12 * 12 or most // 6 * 6 or 4


def pooling_bands(features: Tensor) -> Iterator[slice]:
    """The bands in which a pooling reads ``features``, as slices of an even number of rows."""
    rows = features.shape[1]
    height = _POOLING_ROWS if features.device.type == "cpu" else _all_rows(rows)
    return row_bands(rows // 2 * 2, height)


def band_interior(band: Tensor, top: int, rows: int, left: int, columns: int) -> Tensor:
    """``rows`` x ``columns`` pixels of a band from row ``top`` and column ``left`` on; fills the
    rest of the band with zeros."""
    band[:, :top] = 0
    band[:, top + rows :] = 0
    interior = band[:, top : top + rows]
    interior[..., :left] = 0
    interior[..., left + columns :] = 0
    return interior[..., left : left + columns]


def _all_rows(rows: int) -> int:
    """Height of one band for all rows, for cards; even, since poolings halve it."""
    return (rows + 1) // 2 * 2
