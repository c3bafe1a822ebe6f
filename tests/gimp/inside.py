"""Runs in GIMP's own Python: functions that tests call, and a loop that answers requests.

GIMP's batch interpreter executes this file. Images and items are passed as ids, return values as
JSON. It imports the standard library and gi only.
"""

import array
import hashlib
import json
import os
import time
import traceback

from gi.repository import Gegl, Gimp, Gio, GLib, GObject  # noqa: F401

FILTER = "plug-in-nstrt-stylize"

PRECISIONS = {
    "u8": Gimp.Precision.U8_NON_LINEAR,
    "u8-linear": Gimp.Precision.U8_LINEAR,
    "u16": Gimp.Precision.U16_NON_LINEAR,
    "half": Gimp.Precision.HALF_LINEAR,
    "float": Gimp.Precision.FLOAT_LINEAR,
}

displays = {}
"""Displays by the ids of their images."""


def serve(folder):
    """Answer requests that appear as files in ``folder``, in their order, until ``end``."""
    number = 0
    while True:
        asked = os.path.join(folder, f"{number:06}.ask")
        if not os.path.exists(asked):
            time.sleep(0.02)
            continue
        with open(asked) as file:
            request = json.load(file)
        number += 1
        if request["function"] == "end":
            return
        try:
            function = globals()[request["function"]]
            answer = {"value": function(*request["args"], **request["kwargs"])}
            text = json.dumps(answer)
        except BaseException:
            text = json.dumps({"error": traceback.format_exc()})
        write_atomically(asked[:-4] + ".answer", text)


def write_atomically(path, text):
    with open(path + ".part", "w") as file:
        file.write(text)
    os.rename(path + ".part", path)


# Images


def load(path):
    image = Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, Gio.File.new_for_path(path))
    # Undo is off for images that a plug-in loads, on for those that a user opens.
    assert image.undo_is_enabled() or image.undo_enable()
    return image.get_id()


def show(image):
    """Open a display for the image, in front."""
    displays[image] = Gimp.Display.new(_image(image))
    Gimp.displays_flush()


def close(image):
    """Close an image and its display, if they are open."""
    display = displays.pop(image, None)
    if display and display.is_valid():
        display.delete()
    image = Gimp.Image.get_by_id(image)
    if image and image.is_valid():
        image.delete()


def images():
    """Ids of all images that are open."""
    return [image.get_id() for image in Gimp.get_images()]


def convert(image, precision="u8", gray=False, indexed=False):
    """Convert an image to a precision and a colour model."""
    image = _image(image)
    image.undo_disable()
    if gray:
        assert image.convert_grayscale()
    if precision != "u8":
        assert image.convert_precision(PRECISIONS[precision])
    if indexed:
        assert image.convert_indexed(
            Gimp.ConvertDitherType.NONE, Gimp.ConvertPaletteType.GENERATE, 16, False, True, ""
        )
    image.undo_enable()


def to_adobe_rgb(image):
    """Convert an image to a profile with more colours than sRGB has."""
    profile = Gimp.ColorProfile.new_rgb_adobe()
    assert _image(image).convert_color_profile(
        profile, Gimp.ColorRenderingIntent.RELATIVE_COLORIMETRIC, True
    )


def profile_of(image):
    profile = _image(image).get_color_profile()
    return profile.get_label() if profile else None


def kind_of(image):
    """Colour model and precision."""
    image = _image(image)
    return image.get_base_type().value_nick, image.get_precision().value_nick


# Layers


def layers(image):
    """All layers from top to bottom, groups before what is in them."""
    for _ in range(50):
        try:
            return _layers(image)
        except (AttributeError, TypeError):
            # The filter removed its preview meanwhile.
            time.sleep(0.05)
    return _layers(image)


def _layers(image):
    found = []

    def walk(items):
        for item in items:
            found.append(describe(item.get_id()))
            if item.is_group():
                walk(item.get_children())

    walk(_image(image).get_layers())
    return found


def describe(layer):
    layer = _item(layer)
    _, x, y = layer.get_offsets()
    parent, mask = layer.get_parent(), layer.get_mask()
    return {
        "id": layer.get_id(),
        "name": layer.get_name(),
        "width": layer.get_width(),
        "height": layer.get_height(),
        "x": x,
        "y": y,
        "opacity": layer.get_opacity(),
        "visible": layer.get_visible(),
        "alpha": layer.has_alpha(),
        "mask": mask.get_id() if mask else None,
        "edit_mask": bool(mask) and layer.get_edit_mask(),
        "parent": parent.get_id() if parent else None,
        "position": layer.get_image().get_item_position(layer),
    }


def selected(image):
    """Ids of the selected layers."""
    return [layer.get_id() for layer in _image(image).get_selected_layers()]


def add_alpha_ramp(layer):
    """Set a layer's alpha channel to a ramp from left to right."""
    layer = _item(layer)
    assert layer.has_alpha() or layer.add_alpha()
    width, height = layer.get_width(), layer.get_height()
    rectangle = Gegl.Rectangle.new(0, 0, width, height)
    buffer = layer.get_buffer()
    row = bytes(255 * x // (width - 1) for x in range(width))
    pixels = bytearray(buffer.get(rectangle, 1.0, "R'G'B'A u8", Gegl.AbyssPolicy.NONE))
    pixels[3::4] = row * height
    buffer.set(rectangle, "R'G'B'A u8", bytes(pixels))
    buffer.flush()
    layer.update(0, 0, width, height)


def cut_out(layer, level):
    """Make a layer's left half transparent, with a gray level that nobody sees."""
    layer = _item(layer)
    assert layer.has_alpha() or layer.add_alpha()
    width, height = layer.get_width(), layer.get_height()
    rectangle = Gegl.Rectangle.new(0, 0, width // 2, height)
    buffer = layer.get_buffer()
    pixels = bytes([level, level, level, 0]) * (width // 2 * height)
    buffer.set(rectangle, "R'G'B'A u8", pixels)
    buffer.flush()
    layer.update(0, 0, width, height)


def stretch_values(layer, low, high):
    """Stretch the linear values from 0..1 to ``low``..``high``."""
    layer = _item(layer)
    width, height = layer.get_width(), layer.get_height()
    rectangle = Gegl.Rectangle.new(0, 0, width, height)
    buffer = layer.get_buffer()
    pixels = array.array("f")
    pixels.frombytes(buffer.get(rectangle, 1.0, "RGB float", Gegl.AbyssPolicy.NONE))
    stretched = array.array("f", (low + (high - low) * value for value in pixels))
    buffer.set(rectangle, "RGB float", stretched.tobytes())
    buffer.flush()
    layer.update(0, 0, width, height)


def grow_canvas(image, width, height, x, y):
    """Make the canvas larger than its layers."""
    assert _image(image).resize(width, height, x, y)


def crop_canvas(image, width, height, x, y):
    """Make the canvas smaller than its layers."""
    assert _image(image).resize(width, height, -x, -y)


def add_group(image, *layers):
    """Put layers into a new group."""
    image = _image(image)
    group = Gimp.GroupLayer.new(image, "group")
    assert image.insert_layer(group, None, 0)
    for position, layer in enumerate(layers):
        assert image.reorder_item(_item(layer), group, position)
    return group.get_id()


def add_mask(layer):
    """Add a white mask to a layer, and edit it."""
    layer = _item(layer)
    mask = layer.create_mask(Gimp.AddMaskType.WHITE)
    assert layer.add_mask(mask)
    layer.set_edit_mask(True)
    return mask.get_id()


def add_channel(image):
    image = _image(image)
    channel = Gimp.Channel.new(
        image, "channel", image.get_width(), image.get_height(), 50.0, Gegl.Color.new("red")
    )
    assert image.insert_channel(channel, None, 0)
    return channel.get_id()


def select_layer(image, layer):
    _image(image).set_selected_layers([_item(layer)])


def remove_layer(layer):
    layer = _item(layer)
    assert layer.get_image().remove_layer(layer)
    Gimp.displays_flush()


def duplicate(layer):
    """Copy a layer to the top."""
    layer = _item(layer)
    copy = layer.copy()
    assert layer.get_image().insert_layer(copy, None, 0)
    return copy.get_id()


def rename(layer, name):
    """Rename a layer, which is one undo step."""
    assert _item(layer).set_name(name)
    Gimp.displays_flush()


# Selections


def select_rectangle(image, x, y, width, height):
    assert _image(image).select_rectangle(Gimp.ChannelOps.REPLACE, x, y, width, height)
    Gimp.displays_flush()


def select_ellipse(image, x, y, width, height, feather=0.0):
    image = _image(image)
    assert image.select_ellipse(Gimp.ChannelOps.REPLACE, x, y, width, height)
    if feather:
        assert Gimp.Selection.feather(image, feather)
    Gimp.displays_flush()


def select_none(image):
    assert Gimp.Selection.none(_image(image))
    Gimp.displays_flush()


def selection(image):
    """The selection's item id."""
    return _image(image).get_selection().get_id()


# Pixels


def dump(item, path, format_name):
    """Write an item's pixels to a file; returns width and height."""
    item = _item(item)
    rectangle = Gegl.Rectangle.new(0, 0, item.get_width(), item.get_height())
    pixels = item.get_buffer().get(rectangle, 1.0, format_name, Gegl.AbyssPolicy.NONE)
    with open(path, "wb") as file:
        file.write(pixels)
    return item.get_width(), item.get_height()


def fingerprint(item):
    """SHA-256 of an item's pixels in their own format."""
    item = _item(item)
    buffer = item.get_buffer()
    rectangle = Gegl.Rectangle.new(0, 0, item.get_width(), item.get_height())
    pixels = buffer.get(rectangle, 1.0, None, Gegl.AbyssPolicy.NONE)
    return hashlib.sha256(pixels).hexdigest()


def fingerprint_if_there(item):
    return fingerprint(item) if Gimp.Item.id_is_valid(item) else None


# Procedures


def arguments(name):
    """Names and kinds of a procedure's arguments, or None where there is no such procedure."""
    procedure = Gimp.get_pdb().lookup_procedure(name)
    if not procedure:
        return None
    return {argument.name: argument.value_type.name for argument in procedure.get_arguments()}


def default_of(name, argument):
    """The value of an argument that was not given."""
    value = Gimp.get_pdb().lookup_procedure(name).create_config().get_property(argument)
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def menu_of(name):
    """The menu paths and the label of a procedure."""
    procedure = Gimp.get_pdb().lookup_procedure(name)
    return procedure.get_menu_paths(), procedure.get_menu_label()


def stylize(image, drawables, style=None, mode="noninteractive", name=FILTER, **options):
    """Run the filter; returns its status, its text and how long it took."""
    procedure = Gimp.get_pdb().lookup_procedure(name)
    config = procedure.create_config()
    config.set_property("run-mode", getattr(Gimp.RunMode, mode.upper().replace("-", "_")))
    config.set_property("image", _image(image))
    config.set_core_object_array("drawables", [_item(item) for item in drawables])
    if style is not None:
        config.set_property("style", Gio.File.new_for_path(style))
    for key, value in options.items():
        key = key.replace("_", "-")
        config.set_property(key, value)
        assert config.get_property(key) == value, (key, value)
    start = time.monotonic()
    values = procedure.run(config)
    status = values.index(0)
    return {
        "status": status.value_nick,
        "message": values.index(1)
        if values.length() > 1 and status.value_nick != "success"
        else "",
        "seconds": time.monotonic() - start,
    }


def takes(option, value, name=FILTER):
    """True if GIMP accepts a value for an argument."""
    config = Gimp.get_pdb().lookup_procedure(name).create_config()
    config.set_property(option, value)
    return config.get_property(option) == value


def pid():
    """The ids of this process and of GIMP's."""
    return os.getpid(), os.getppid()


def _image(number):
    image = Gimp.Image.get_by_id(number)
    assert image, f"no image {number}"
    return image


def _item(number):
    item = Gimp.Item.get_by_id(number)
    assert item, f"no item {number}"
    return item


# Locks and pasted pieces


def lock(layer):
    """Lock the pixels of a layer."""
    assert _item(layer).set_lock_content(True)


def selected_layers(image):
    return [layer.get_id() for layer in _image(image).get_selected_layers()]


def paste_floating(layer):
    """Copy a layer and paste it over itself as a floating selection."""
    layer = _item(layer)
    assert Gimp.edit_copy([layer])
    return [piece.get_id() for piece in Gimp.edit_paste(layer, False)]
