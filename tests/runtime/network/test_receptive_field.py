"""The computed area of each layer equals the pixels that a core needs, traced one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nstrt.runtime.network.receptive_field import FULL_CORE, OutputRange, output_areas

VGG19 = tuple(bool(int(mark)) for mark in "0101000100010")
"""True for convolutions, down to conv5_1, that a pooling follows."""


@st.composite
def layer_cores(draw: st.DrawFn) -> tuple[tuple[bool, ...], int, slice]:
    """Poolings, the length of an input, and a core that starts and ends at window borders of all
    poolings or at the edge."""
    pooled = tuple(draw(st.lists(st.booleans(), min_size=1, max_size=7)))
    step = 2 ** sum(pooled)
    length = draw(st.integers(step, 12 * step))
    starts = st.integers(0, length // step - 1)
    start = draw(starts)
    stop = draw(st.one_of(st.none(), st.integers(start + 1, length // step)))
    return pooled, length, slice(start * step, None if stop is None else stop * step)


def needed(pooled: tuple[bool, ...], length: int, core: slice) -> list[set[int]]:
    """The pixels of each convolution's output that the core needs."""
    lengths, strides = [length], [1]
    for has_pool in pooled:
        lengths.append(lengths[-1] // 2 if has_pool else lengths[-1])
        strides.append(strides[-1] * (2 if has_pool else 1))

    def core_pixels(number: int) -> set[int]:
        """The core's pixels after a number of convolutions."""
        stop = lengths[number] if core.stop is None else core.stop // strides[number]
        return set(range(core.start // strides[number], stop))

    pixels: list[set[int]] = []
    current = core_pixels(len(pooled))
    for number in reversed(range(len(pooled))):
        if pooled[number]:
            current = {2 * pixel + half for pixel in current for half in (0, 1)}
        current |= core_pixels(number)
        pixels.append(current)
        current = {pixel + step for pixel in current for step in (-1, 0, 1)}
        current &= set(range(lengths[number]))
    return pixels[::-1]


@given(layer_cores(), st.integers(0, 200))
def test_exactly_the_pixels_that_a_core_needs_are_computed(
    side: tuple[tuple[bool, ...], int, slice], more: int
) -> None:
    pooled, height, core = side
    width = 2 ** sum(pooled) + more
    areas = output_areas(pooled, height, width, (core, slice(0, None)))
    rows = [set(range(area.rows.start, area.rows.stop)) for area in areas]
    assert rows == needed(pooled, height, core)
    columns = [set(range(area.columns.start, area.columns.stop)) for area in areas]
    assert columns == needed(pooled, width, slice(0, None))


@given(st.integers(1, 40), st.integers(0, 39), st.integers(1, 40), st.sampled_from([0, 1]))
def test_a_convolution_reads_one_pixel_more_on_each_side(
    length: int, start: int, stop: int, input_margin: int
) -> None:
    start, stop = min(start, length - 1), min(stop, length)
    if start >= stop:
        return
    output = OutputRange(length, start, stop, input_margin)
    inputs = set(range(-input_margin, length + input_margin))
    reads = sorted({pixel + step for pixel in range(start, stop) for step in (-1, 0, 1)} & inputs)
    assert reads == list(range(output.input_start, output.input_start + output.input_size))
    # The first output pixel depends on the input pixel before it, which may be a zero.
    assert output.padding == reads[0] - (start - 1)
    # The first input pixel affects outputs from the one before it on.
    assert output.transposed_padding == start - (reads[0] - 1)
    assert output.size == stop - start


def test_a_full_core_needs_every_pixel() -> None:
    for area in output_areas(VGG19, 301, 97, FULL_CORE):
        for output in (area.rows, area.columns):
            assert (output.start, output.stop) == (0, output.length)


def test_deep_layers_leave_out_most_of_a_margin() -> None:
    """A core of 384 pixels with the margin of relu5_1, in the middle of a picture."""
    core = slice(80, 464)
    areas = output_areas(VGG19, 544, 544, (core, core))
    counts = [area.rows.size for area in areas]
    assert counts == [522, 520, 258, 256, 126, 124, 122, 120, 58, 56, 54, 52, 24]
