"""What of each layer is computed for a tile's core, against pixels followed one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nstrt.runtime.network.receptive import FULL_CORE, OutputRange, output_areas

VGG19 = tuple(bool(int(mark)) for mark in "0101000100010")
"""Which convolutions down to conv5_1 a pooling follows."""


@st.composite
def sides(draw: st.DrawFn) -> tuple[tuple[bool, ...], int, slice]:
    """Some convolutions, a length and a core of it that ends at windows of all poolings, or at the
    end of the length."""
    pooled = tuple(draw(st.lists(st.booleans(), min_size=1, max_size=7)))
    step = 2 ** sum(pooled)
    length = draw(st.integers(step, 12 * step))
    starts = st.integers(0, length // step - 1)
    start = draw(starts)
    stop = draw(st.one_of(st.none(), st.integers(start + 1, length // step)))
    return pooled, length, slice(start * step, None if stop is None else stop * step)


def needed(pooled: tuple[bool, ...], length: int, core: slice) -> list[set[int]]:
    """Of each convolution's output, pixel by pixel."""
    lengths, strides = [length], [1]
    for halves in pooled:
        lengths.append(lengths[-1] // 2 if halves else lengths[-1])
        strides.append(strides[-1] * (2 if halves else 1))

    def own(number: int) -> set[int]:
        """The core at a resolution."""
        stop = lengths[number] if core.stop is None else core.stop // strides[number]
        return set(range(core.start // strides[number], stop))

    found: list[set[int]] = []
    wanted = own(len(pooled))
    for number in reversed(range(len(pooled))):
        if pooled[number]:
            wanted = {2 * pixel + half for pixel in wanted for half in (0, 1)}
        wanted |= own(number)
        found.append(wanted)
        wanted = {pixel + step for pixel in wanted for step in (-1, 0, 1)}
        wanted &= set(range(lengths[number]))
    return found[::-1]


@given(sides(), st.integers(0, 200))
def test_what_the_core_needs_is_computed_and_no_more(
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
def test_a_convolution_reads_a_pixel_more_on_each_side(
    length: int, start: int, stop: int, around: int
) -> None:
    start, stop = min(start, length - 1), min(stop, length)
    if start >= stop:
        return
    extent = OutputRange(length, start, stop, around)
    there = set(range(-around, length + around))
    reads = sorted({pixel + step for pixel in range(start, stop) for step in (-1, 0, 1)} & there)
    assert reads == list(range(extent.input_start, extent.input_start + extent.input_size))
    # The first pixel of the output is made of the one before it, which may be a zero.
    assert extent.padding == reads[0] - (start - 1)
    # The first pixel of the input reaches outputs from the one before it on.
    assert extent.transposed_padding == start - (reads[0] - 1)
    assert extent.size == stop - start


def test_without_a_core_everything_is_computed() -> None:
    for area in output_areas(VGG19, 301, 97, FULL_CORE):
        for extent in (area.rows, area.columns):
            assert (extent.start, extent.stop) == (0, extent.length)


def test_most_of_a_margin_is_left_out_in_deep_layers() -> None:
    """A core of 384 pixels with the margin of relu5_1, in the middle of a picture."""
    core = slice(80, 464)
    areas = output_areas(VGG19, 544, 544, (core, core))
    counts = [area.rows.size for area in areas]
    assert counts == [522, 520, 258, 256, 126, 124, 122, 120, 58, 56, 54, 52, 24]
