"""Reads the layer to be painted, and writes the preview and the result above it."""

import time

from gi.repository import Gegl, Gimp
from nstrt_errors import Cancelled, UserError

CONTEXT = 0.25
"""Margin painted round a selection, as a share of its long side."""

MIN_SIDE = 64
"""Pixels that are painted at least, however small the selection."""

LARGE = 4_000_000
"""Pixels above which previews are enlarged linearly instead of cubically."""

PREVIEW_PAUSE = 4
"""Pause after a preview, in multiples of the time that showing it took."""

BABL_FORMATS = {"rgba8": "R'G'B'A u8", "rgba16": "R'G'B'A u16"}
PIXEL_BYTES = {"rgba8": 4, "rgba16": 8}


class Canvas:
    """The rectangle of a layer that is painted: its pixels, its preview and its result."""

    def __init__(self, image, drawables):
        """Raises UserError if the drawables are not one layer that can be painted."""
        self.image = image
        self.layer = _paintable_layer(image, drawables)
        self._preview = None
        self._preview_seconds = 0.0
        self._preview_shown = float("-inf")
        bounds = _selection_bounds(image, self.layer)
        selected = bounds is not None
        size = self.layer.get_width(), self.layer.get_height()
        self.x, self.y, self.width, self.height = (
            _with_context(*bounds, size) if selected else (0, 0, *size)
        )
        # Eight bits a channel are enough for an image that has them; all others travel as sixteen.
        # Linear light has finer shadows than eight bits of a screen's encoding can tell apart.
        eight = image.get_precision() == Gimp.Precision.U8_NON_LINEAR
        self.format = "rgba8" if eight else "rgba16"
        # Read now: the user may change the selection while the worker paints.
        self._mask = self._read_selection() if selected else None

    def read_pixels(self):
        """Return the rectangle's pixels in ``format``, sRGB encoded with transparency."""
        self.check()
        rectangle = Gegl.Rectangle.new(self.x, self.y, self.width, self.height)
        pixels = self.layer.get_buffer().get(
            rectangle, 1.0, BABL_FORMATS[self.format], Gegl.AbyssPolicy.CLAMP
        )
        if len(pixels) != self._nbytes():
            raise UserError("GIMP did not give the layer's pixels; save the picture and try again")
        return pixels

    def check(self):
        """Raise UserError if the image was closed or the layer deleted."""
        if not (self.image.is_valid() and self._in_image(self.layer)):
            raise UserError("The picture or its layer was closed or deleted; nothing was painted")

    def show_preview(self, width, height, pixels, name, keep_going):
        """Show a preview, enlarged to the rectangle, in a layer outside the undo history.

        Enlarging takes seconds for large layers; it stops when ``keep_going()`` is false.
        """
        started = time.monotonic()
        if started - self._preview_shown < PREVIEW_PAUSE * self._preview_seconds:
            # Large previews take long to show; the worker needs the processor more.
            return
        self.check()
        if not self._preview_writable():
            return
        layer = self._preview or self._new_layer(name)
        for _ in _enlarge(layer.get_buffer(), width, height, self.width, self.height, pixels):
            if not (keep_going() and self._preview_writable()):
                return
        if self._preview is None:
            self._without_undo(lambda: self._insert(layer))
            self._preview = layer
            # What the user paints meanwhile belongs to the photo's layer.
            self.image.set_selected_layers([self.layer])
        layer.update(0, 0, self.width, self.height)
        Gimp.displays_flush()
        self._preview_shown = time.monotonic()
        self._preview_seconds = self._preview_shown - started

    def hide_preview(self):
        """Remove the preview's layer without a trace in the undo history."""
        preview, self._preview = self._preview, None
        if preview is None or not self.image.is_valid():
            return
        if self._in_image(preview):
            self._without_undo(lambda: self.image.remove_layer(preview))
        Gimp.displays_flush()

    def insert_result(self, pixels, name):
        """Insert the result as a new layer above the painted one, in one undo step."""
        self.check()
        if len(pixels) != self._nbytes():
            raise UserError("The program that paints gave a picture of another size; try again")
        layer = self._new_layer(name)
        buffer = layer.get_buffer()
        buffer.set(
            Gegl.Rectangle.new(0, 0, self.width, self.height), BABL_FORMATS[self.format], pixels
        )
        buffer.flush()
        self.image.undo_group_start()
        try:
            self._insert(layer)
        finally:
            self.image.undo_group_end()
        layer.update(0, 0, self.width, self.height)
        Gimp.displays_flush()
        return layer

    def _nbytes(self):
        return self.width * self.height * PIXEL_BYTES[self.format]

    def _read_selection(self):
        """Return the selection over the rectangle as 32-bit floats, 0 beyond the canvas."""
        _, left, top = self.layer.get_offsets()
        rectangle = Gegl.Rectangle.new(left + self.x, top + self.y, self.width, self.height)
        selection = self.image.get_selection().get_buffer()
        return selection.get(rectangle, 1.0, "Y float", Gegl.AbyssPolicy.NONE)

    def _new_layer(self, name):
        gray = self.image.get_base_type() == Gimp.ImageBaseType.GRAY
        kind = Gimp.ImageType.GRAYA_IMAGE if gray else Gimp.ImageType.RGBA_IMAGE
        layer = Gimp.Layer.new(
            self.image, name, self.width, self.height, kind, 100.0, Gimp.LayerMode.NORMAL
        )
        if layer is None:
            raise UserError("GIMP could not make a new layer; save the picture and try again")
        _, left, top = self.layer.get_offsets()
        layer.set_offsets(left + self.x, top + self.y)
        return layer

    def _insert(self, layer):
        """Insert a layer right above the painted one, with the selection as its mask."""
        position = self.image.get_item_position(self.layer)
        if not self.image.insert_layer(layer, self.layer.get_parent(), position):
            raise UserError("GIMP could not add the new layer; save the picture and try again")
        if self._mask is not None:
            mask = layer.create_mask(Gimp.AddMaskType.WHITE)
            buffer = mask.get_buffer()
            buffer.set(Gegl.Rectangle.new(0, 0, self.width, self.height), "Y float", self._mask)
            buffer.flush()
            if not layer.add_mask(mask):
                raise UserError("GIMP could not add the layer's mask; the layer has none")
            layer.set_edit_mask(False)

    def _without_undo(self, change):
        """Call ``change`` without a step in the image's undo history."""
        self.image.undo_freeze()
        try:
            change()
        finally:
            self.image.undo_thaw()

    def _preview_writable(self):
        """Return False if the preview is locked; raises Cancelled if the user deleted it."""
        if self._preview is None:
            return True
        if not self._in_image(self._preview):
            raise Cancelled
        # GIMP ends a plug-in that writes into a locked layer.
        return not _locked(self._preview)

    def _in_image(self, layer):
        """Return True if the layer is in the image, not only in its undo history.

        A layer in the history is valid too, but GIMP ends a plug-in that touches its pixels.
        """
        if not layer.is_valid():
            return False
        parent = layer.get_parent()
        if parent is not None and not self._in_image(parent):
            return False
        siblings = self.image.get_layers() if parent is None else parent.get_children()
        return any(other.get_id() == layer.get_id() for other in siblings)


def _paintable_layer(image, drawables):
    """Return the one layer that is to be painted; raises UserError if there is none."""
    if len(drawables) != 1:
        raise UserError("Choose exactly one layer to paint, then try again")
    drawable = drawables[0]
    if image.get_base_type() == Gimp.ImageBaseType.INDEXED:
        raise UserError(
            "A picture with a palette (indexed) cannot hold paint; choose Image > Mode > RGB "
            "first, then try again"
        )
    if drawable.is_layer_mask():
        drawable = Gimp.Layer.from_mask(drawable)
    if not drawable.is_layer():
        raise UserError("A channel cannot be painted; choose a layer, then try again")
    if drawable.is_floating_sel():
        raise UserError(
            "A pasted piece is still floating; choose Layer > To New Layer or Anchor Floating "
            "Layer, then try again"
        )
    if min(drawable.get_width(), drawable.get_height()) < 1:
        raise UserError("The layer is empty; choose another one")
    return drawable


def _selection_bounds(image, layer):
    """Return the selection's x, y, width and height on the layer; None if nothing is selected."""
    if Gimp.Selection.is_empty(image):
        return None
    found, x, y, width, height = layer.mask_intersect()
    if not found or width < 1 or height < 1:
        raise UserError(
            "The selection lies outside of the layer; choose Select > None, or select a "
            "part of the layer"
        )
    return x, y, width, height


def _with_context(x, y, width, height, layer_size):
    """Return the rectangle with a margin round it, clipped to the layer."""
    margin = round(CONTEXT * max(width, height))
    spans = []
    for start, length, limit in ((x, width, layer_size[0]), (y, height, layer_size[1])):
        more = max(margin, (MIN_SIDE - length + 1) // 2)
        first, last = max(0, start - more), min(limit, start + length + more)
        spans.append((first, last - first))
    (left, wide), (top, high) = spans
    return left, top, wide, high


def _locked(layer):
    """Return True if the pixels of a layer, or of a group it is in, are locked."""
    while layer is not None:
        if layer.get_lock_content():
            return True
        layer = layer.get_parent()
    return False


def _enlarge(target, width, height, target_width, target_height, pixels):
    """Write rgba8 pixels into a larger buffer, interpolated; yields before each part."""
    small = Gegl.Buffer.new("R'G'B'A u8", 0, 0, width, height)
    small.set(Gegl.Rectangle.new(0, 0, width, height), "R'G'B'A u8", pixels)
    graph = Gegl.Node()
    source = graph.create_child("gegl:buffer-source")
    source.set_property("buffer", small)
    scale = graph.create_child("gegl:scale-size")
    scale.set_property("x", float(target_width))
    scale.set_property("y", float(target_height))
    large = target_width * target_height > LARGE
    scale.set_property("sampler", Gegl.SamplerType.LINEAR if large else Gegl.SamplerType.CUBIC)
    scale.set_property("abyss-policy", Gegl.AbyssPolicy.CLAMP)
    sink = graph.create_child("gegl:write-buffer")
    sink.set_property("buffer", target)
    source.link(scale)
    scale.link(sink)
    processor = sink.new_processor(Gegl.Rectangle.new(0, 0, target_width, target_height))
    more = True
    while more:
        yield
        more, _ = processor.work()
    target.flush()
