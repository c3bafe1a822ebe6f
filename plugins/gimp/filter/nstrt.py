#!/usr/bin/env python3
"""Filters > Artistic > Neural Style: a GIMP 3 plug-in that repaints a layer in a painting's style.

It runs in GIMP's own Python and needs nothing but that: the standard library and gi. The painting
is done by nstrt's worker, another process with a Python of its own, which outlives the plug-in and
stays warm for the next picture; how it is started stands in nstrt.json beside this file, written
by ``nstrt gimp install``. The two talk over a socket; docs/worker.md describes how.
"""

import json
import os
import re
import select
import socket
import stat
import subprocess
import sys
import tempfile
import time

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("Gegl", "0.4")
from gi.repository import Gegl, Gimp, GLib, GObject  # noqa: E402

NAME = "plug-in-nstrt-stylize"
TITLE = "Neural Style"
FORMAT, PROTOCOL = 1, 1

WORKING_SIZES = {"draft": 256, "normal": None, "fine": 768}
"""Long side in pixels that is painted at, by the dialog's Detail; None for the machine's own."""

CONTEXT = 0.25
"""How much of the picture round a selection is painted with it, as a share of its long side."""

LARGE = 4_000_000
"""Pixels above which pictures on the way are enlarged in the simplest way."""

RARELY = 4
"""A picture on the way is shown again after so many times as long as it took to show the last."""

SMALLEST = 64
"""Pixels that are painted at least, however small the selection."""

PREVIEW_SECONDS = 2.0

GIMPS_OWN = ("GI_TYPELIB_PATH", "LD_LIBRARY_PATH", "GEGL_PATH", "BABL_PATH", "NSTRT_CACHE")
"""Variables of GIMP's environment that the worker's does not have (nor Python's)."""


class Trouble(Exception):  # noqa: N818 - not always an error of the program
    """What went wrong, in one sentence for the painter."""


class Cancelled(Exception):  # noqa: N818 - a wish
    """The painter wants nothing of it."""


# The worker ---------------------------------------------------------------------------------------


class Settings:
    """What nstrt.json says: how the worker is started, and what the dialog offers."""

    def __init__(self, content):
        self.version = content["version"]
        self.command = content["command"]
        self.environment = content["environment"]
        self.log = content["log"]
        self.mend = content["mend"]
        self.arguments = content["arguments"]
        for item in self.arguments:
            # Raises if one is of no use.
            [item[key] for key in ("name", "option", "kind", "default", "unset", "advanced")]

    @classmethod
    def read(cls):
        """Raises Trouble if the file is missing or of no use."""
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nstrt.json")
        mend = "run this in a terminal, then start GIMP again: nstrt gimp install"
        try:
            with open(path, encoding="utf-8") as file:
                content = json.load(file)
            if content["format"] != FORMAT or content["protocol"] != PROTOCOL:
                raise Trouble(f"The filter and its file nstrt.json do not fit together; {mend}")
            return cls(content)
        except FileNotFoundError:
            raise Trouble(f"The file nstrt.json is missing beside the filter; {mend}") from None
        except (OSError, ValueError, KeyError, TypeError):
            raise Trouble(f"The file nstrt.json beside the filter is damaged; {mend}") from None


class Worker:
    """A connection to the worker of this GIMP, which is started if it does not run yet.

    Messages are one line of JSON; ``nbytes`` in it says how many raw bytes follow.
    """

    def __init__(self, settings, wait):
        self.settings = settings
        self.log = settings.log
        self._wait = wait
        self._buffer = bytearray()
        self._ids = 0
        self._socket = None
        for attempt in (1, 2):
            self._socket = self._reach()
            try:
                self._greet()
                break
            except Trouble:
                # One that was just ending, after its idle time, is followed by a fresh one.
                self.close()
                self._buffer.clear()
                if attempt == 2:
                    raise

    def ask(self, op, payload=b"", **fields):
        """Send a request; gives its id."""
        self._ids += 1
        message = {"op": op, "id": self._ids, **fields}
        if payload:
            message["nbytes"] = len(payload)
        try:
            self._socket.settimeout(60)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            if payload:
                self._socket.sendall(payload)
        except OSError:
            raise self._lost() from None
        return self._ids

    def answers(self, seconds=0.0):
        """The events that are there, each with its bytes, waiting for the first at most so long."""
        self._socket.settimeout(0)
        until = time.monotonic() + seconds
        while True:
            found = list(self._take())
            left = until - time.monotonic()
            if found or not self._readable(max(0.0, left)):
                return found

    def close(self):
        """End the connection, and with it whatever was asked for over it."""
        if self._socket:
            self._socket.close()

    def _readable(self, seconds):
        """Read what there is; whether there was anything within so many seconds."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return False
        try:
            piece = self._socket.recv(1 << 20)
        except BlockingIOError:
            return True
        except OSError:
            piece = b""
        if not piece:
            raise self._lost()
        self._buffer += piece
        return True

    def _take(self):
        """Whole messages from the start of the buffer."""
        while (end := self._buffer.find(b"\n")) >= 0:
            try:
                event = json.loads(self._buffer[:end])
            except ValueError:
                raise self._lost() from None
            size = event.get("nbytes", 0)
            if len(self._buffer) < end + 1 + size:
                return
            payload = bytes(memoryview(self._buffer)[end + 1 : end + 1 + size])
            del self._buffer[: end + 1 + size]
            yield event, payload

    def _lost(self):
        return Trouble(
            "The program that paints has ended unexpectedly; try again, and if it happens again, "
            f"look into {self.log}"
        )

    def _reach(self):
        """A socket to the worker that runs already, or to one started now."""
        folder = _own_folder()
        posix = hasattr(socket, "AF_UNIX")
        # A newer nstrt, installed while an older worker is warm, has a worker of its own.
        name = f"gimp-{os.getppid()}-{self.settings.version}-{PROTOCOL}"
        place = os.path.join(folder, name + (".sock" if posix else ".json"))
        found = self._connect(place)
        if found:
            return found
        with tempfile.TemporaryFile() as complaints:
            process = self._start(["--socket" if posix else "--loopback", place], complaints)
            until = time.monotonic() + 30
            while time.monotonic() < until:
                # Looked at before connecting: one that leaves for another may leave it the place.
                ended = process.poll()
                found = self._connect(place)
                if found:
                    return found
                if ended is not None:
                    complaints.seek(0)
                    raise self._not_started(complaints.read().decode(errors="replace"))
                self._wait(0.03)
            process.kill()
        raise Trouble(
            "The program that paints does not answer; start GIMP again, and if it happens again, "
            f"look into {self.log}"
        )

    def _not_started(self, said):
        """Why the worker ended at once, from what it said."""
        lines = [line for line in said.splitlines() if line.startswith("nstrt: ")]
        missing = re.search(r"No module named '?([\w.]+)", said)
        if missing:
            return Trouble(
                f"The Python of nstrt has no {missing[1].split('.')[0]} any more; set nstrt up "
                "again, then run in a terminal: nstrt gimp install"
            )
        if not lines:
            return Trouble(
                "The program that paints ended as soon as it was started; try again, and if it "
                f"happens again, run in a terminal: {self.settings.mend}"
            )
        why = lines[-1].removeprefix("nstrt: ").rstrip(".")
        return Trouble(
            f"The program that paints does not start ({why}); mend it by running this in a "
            f"terminal: {self.settings.mend}"
        )

    def _start(self, place, complaints):
        command = [*self.settings.command, *place, "--host-pid", str(os.getppid())]
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PYTHON") and name not in GIMPS_OWN
        }
        environment.update(self.settings.environment)
        windows = sys.platform == "win32"
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                env=environment,
                # GIMP ends a plug-in together with its process group; the worker stays.
                start_new_session=not windows,
                creationflags=subprocess.CREATE_NO_WINDOW if windows else 0,
            )
        except OSError:
            if os.path.exists("/.flatpak-info"):
                raise Trouble(
                    "GIMP from a Flatpak cannot reach nstrt; use your distribution's GIMP 3"
                ) from None
            raise Trouble(
                f"The Python of nstrt is not there any more ({command[0]}); set nstrt up again, "
                "then run in a terminal: nstrt gimp install"
            ) from None

    def _connect(self, place):
        """A connection to a worker that listens at ``place``, or None."""
        try:
            if place.endswith(".sock"):
                found = socket.socket(socket.AF_UNIX)
                self._token = None
                target = place
            else:
                with open(place, encoding="utf-8") as file:
                    endpoint = json.load(file)
                found = socket.socket(socket.AF_INET)
                self._token = endpoint["token"]
                target = ("127.0.0.1", endpoint["port"])
        except (OSError, ValueError, KeyError):
            return None
        try:
            found.settimeout(5)
            found.connect(target)
        except OSError:
            found.close()
            return None
        return found

    def _greet(self):
        token = {"token": self._token} if self._token else {}
        self.ask("hello", protocol=PROTOCOL, **token)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            for event, _ in self.answers():
                if event["event"] == "hello":
                    self.log = event["log"]
                    return event
                raise Trouble(event.get("message", "The program that paints does not answer."))
            self._wait(0.02)
        raise Trouble(
            "The program that paints does not answer; start GIMP again, and if it happens again, "
            f"look into {self.log}"
        )


def _own_folder():
    """A folder for sockets that only this user can enter."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if not (base and os.path.isdir(base)):
        base = tempfile.gettempdir()
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    folder = os.path.join(base, f"nstrt-{user}")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        state = os.lstat(folder)
    except OSError as error:
        raise Trouble(f"The folder {folder} cannot be made ({error.strerror})") from None
    if hasattr(os, "getuid"):
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != user:
            raise Trouble(f"The folder {folder} belongs to somebody else, who has to delete it")
        if state.st_mode & 0o077:
            os.chmod(folder, 0o700)
    return folder


# The picture --------------------------------------------------------------------------------------


class Canvas:
    """The layer to be painted: what is read of it, and the layers that come above it."""

    def __init__(self, image, drawables):
        if len(drawables) != 1:
            raise Trouble("Choose exactly one layer to paint, then try again")
        drawable = drawables[0]
        if image.get_base_type() == Gimp.ImageBaseType.INDEXED:
            raise Trouble(
                "A picture with a palette (indexed) cannot hold paint; choose Image > Mode > RGB "
                "first, then try again"
            )
        if drawable.is_layer_mask():
            drawable = Gimp.Layer.from_mask(drawable)
        if not drawable.is_layer():
            raise Trouble("A channel cannot be painted; choose a layer, then try again")
        if drawable.is_floating_sel():
            raise Trouble(
                "A pasted piece is still floating; choose Layer > To New Layer or Anchor Floating "
                "Layer, then try again"
            )
        self.image, self.layer = image, drawable
        self._preview = None
        self._costs = 0.0
        self._shown = float("-inf")
        whole = drawable.get_width(), drawable.get_height()
        if min(whole) < 1:
            raise Trouble("The layer is empty; choose another one")
        selected = not Gimp.Selection.is_empty(image)
        if selected:
            found, x, y, width, height = drawable.mask_intersect()
            if not found or width < 1 or height < 1:
                raise Trouble(
                    "The selection lies outside of the layer; choose Select > None, or select a "
                    "part of the layer"
                )
        else:
            x, y, width, height = 0, 0, *whole
        self.x, self.y, self.width, self.height = self._surrounded(x, y, width, height, whole)
        # Eight bits a channel are enough for a picture that has them; all others travel as sixteen.
        # Linear light has finer shadows than eight bits of a screen's encoding can tell apart.
        eight = image.get_precision() == Gimp.Precision.U8_NON_LINEAR
        self.format = "rgba8" if eight else "rgba16"
        # As it is now: the painter may select something else while it is painted.
        self._mask = self._selection() if selected else None

    @staticmethod
    def _surrounded(x, y, width, height, whole):
        """A rectangle with some of the picture round it, within the layer."""
        margin = round(CONTEXT * max(width, height))
        spans = []
        for start, length, limit in ((x, width, whole[0]), (y, height, whole[1])):
            more = max(margin, (SMALLEST - length + 1) // 2)
            first, last = max(0, start - more), min(limit, start + length + more)
            spans.append((first, last - first))
        (left, wide), (top, high) = spans
        return left, top, wide, high

    def _selection(self):
        """The selection over the rectangle, 32-bit floats, 0 beyond the canvas."""
        _, left, top = self.layer.get_offsets()
        place = Gegl.Rectangle.new(left + self.x, top + self.y, self.width, self.height)
        selection = self.image.get_selection().get_buffer()
        return selection.get(place, 1.0, "Y float", Gegl.AbyssPolicy.NONE)

    def pixels(self):
        """What is painted, sRGB encoded with transparency."""
        self.check()
        place = Gegl.Rectangle.new(self.x, self.y, self.width, self.height)
        found = self.layer.get_buffer().get(
            place, 1.0, BABL_FORMATS[self.format], Gegl.AbyssPolicy.CLAMP
        )
        if len(found) != self.width * self.height * PIXEL_BYTES[self.format]:
            raise Trouble("GIMP did not give the layer's pixels; save the picture and try again")
        return found

    def check(self):
        """Raise Trouble if the layer is not there any more."""
        if not (self.image.is_valid() and self._in_image(self.layer)):
            raise Trouble("The picture or its layer was closed or deleted; nothing was painted")

    def show(self, width, height, pixels, name, go_on):
        """Show a picture on the way, of any size, in a layer that no undo step knows of.

        A large one takes seconds: it is left as it is when ``go_on`` says so.
        """
        begun = time.monotonic()
        if begun - self._shown < RARELY * self._costs:
            # Large pictures take long to show; the time is better spent painting.
            return
        self.check()
        if not self._paintable():
            return
        layer = self._preview or self._new_layer(name)
        for _ in _enlarging(layer.get_buffer(), width, height, self.width, self.height, pixels):
            if not (go_on() and self._paintable()):
                return
        if self._preview is None:
            self._quietly(lambda: self._insert(layer))
            self._preview = layer
            # What the painter does meanwhile is meant for the photo.
            self.image.set_selected_layers([self.layer])
        layer.update(0, 0, self.width, self.height)
        Gimp.displays_flush()
        self._shown = time.monotonic()
        self._costs = self._shown - begun

    def _paintable(self):
        """Whether the picture on the way may be written to."""
        if self._preview is None:
            return True
        if not self._in_image(self._preview):
            # The painter deleted it; that is an answer.
            raise Cancelled
        # GIMP ends a plug-in that writes into a locked layer.
        return not _locked(self._preview)

    def hide(self):
        """Take the picture on the way away again, as if it had never been there."""
        preview, self._preview = self._preview, None
        if preview is None or not self.image.is_valid():
            return
        if self._in_image(preview):
            self._quietly(lambda: self.image.remove_layer(preview))
        Gimp.displays_flush()

    def keep(self, pixels, name):
        """Put the result into a new layer above the painted one, in one undo step."""
        self.check()
        if len(pixels) != self.width * self.height * PIXEL_BYTES[self.format]:
            raise Trouble("The program that paints gave a picture of another size; try again")
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

    def _new_layer(self, name):
        gray = self.image.get_base_type() == Gimp.ImageBaseType.GRAY
        kind = Gimp.ImageType.GRAYA_IMAGE if gray else Gimp.ImageType.RGBA_IMAGE
        layer = Gimp.Layer.new(
            self.image, name, self.width, self.height, kind, 100.0, Gimp.LayerMode.NORMAL
        )
        if layer is None:
            raise Trouble("GIMP could not make a new layer; save the picture and try again")
        _, left, top = self.layer.get_offsets()
        layer.set_offsets(left + self.x, top + self.y)
        return layer

    def _insert(self, layer):
        """Above the painted layer, with the selection as its mask."""
        position = self.image.get_item_position(self.layer)
        if not self.image.insert_layer(layer, self.layer.get_parent(), position):
            raise Trouble("GIMP could not add the new layer; save the picture and try again")
        if self._mask is not None:
            mask = layer.create_mask(Gimp.AddMaskType.WHITE)
            buffer = mask.get_buffer()
            whole = Gegl.Rectangle.new(0, 0, self.width, self.height)
            buffer.set(whole, "Y float", self._mask)
            buffer.flush()
            if not layer.add_mask(mask):
                raise Trouble("GIMP could not add the layer's mask; the layer has none")
            layer.set_edit_mask(False)

    def _quietly(self, change):
        """Change the picture without a step in its undo history."""
        self.image.undo_freeze()
        try:
            change()
        finally:
            self.image.undo_thaw()

    def _in_image(self, layer):
        """Whether a layer still is in the picture: one that only the undo history holds is valid
        too, but GIMP ends a plug-in that touches its pixels."""
        if not layer.is_valid():
            return False
        parent = layer.get_parent()
        if parent is not None and not self._in_image(parent):
            return False
        beside = self.image.get_layers() if parent is None else parent.get_children()
        return any(other.get_id() == layer.get_id() for other in beside)


def _locked(layer):
    """Whether a layer or a group it is in must not be painted on."""
    while layer is not None:
        if layer.get_lock_content():
            return True
        layer = layer.get_parent()
    return False


BABL_FORMATS = {"rgba8": "R'G'B'A u8", "rgba16": "R'G'B'A u16"}
PIXEL_BYTES = {"rgba8": 4, "rgba16": 8}


def _enlarging(target, width, height, whole_width, whole_height, pixels):
    """Write a small picture into a larger buffer, interpolated, yielding before each part."""
    small = Gegl.Buffer.new("R'G'B'A u8", 0, 0, width, height)
    small.set(Gegl.Rectangle.new(0, 0, width, height), "R'G'B'A u8", pixels)
    graph = Gegl.Node()
    source = graph.create_child("gegl:buffer-source")
    source.set_property("buffer", small)
    scale = graph.create_child("gegl:scale-size")
    scale.set_property("x", float(whole_width))
    scale.set_property("y", float(whole_height))
    large = whole_width * whole_height > LARGE
    scale.set_property("sampler", Gegl.SamplerType.LINEAR if large else Gegl.SamplerType.CUBIC)
    scale.set_property("abyss-policy", Gegl.AbyssPolicy.CLAMP)
    sink = graph.create_child("gegl:write-buffer")
    sink.set_property("buffer", target)
    source.link(scale)
    scale.link(sink)
    processor = sink.new_processor(Gegl.Rectangle.new(0, 0, whole_width, whole_height))
    more = True
    while more:
        yield
        more, _ = processor.work()
    target.flush()


# The run ------------------------------------------------------------------------------------------


def options_of(config, settings, width, height):
    """The worker's options from the dialog's values, for a picture of so many pixels."""
    options = {"original_size": True}
    for item in settings.arguments:
        value = config.get_property(item["name"])
        if item["option"] and value != item["unset"]:
            options[item["option"]] = value
    if "size" not in options:
        detail = config.get_property("detail")
        wanted = max(width, height) if detail == "full" else WORKING_SIZES[detail]
        if wanted:
            options["size"] = wanted
    if "size" in options:
        # More than there is would only be enlarged first.
        options["size"] = max(16, min(options["size"], max(width, height)))
    return options


def painting_of(config):
    """The path of the painting."""
    file = config.get_property("style")
    if file is None:
        raise Trouble("Choose a painting first: any picture file whose style you like")
    path = file.get_path()
    if path is None:
        raise Trouble("The painting must be a file on this computer")
    if not os.path.isfile(path):
        raise Trouble(f"There is no painting '{path}' any more; choose another one")
    return path


def paint(worker, canvas, config, sight):
    """Have the canvas painted; gives the new layer.

    ``sight`` shows how far it is and says what the painter wishes. Raises Trouble or Cancelled.
    """
    path = painting_of(config)
    name = f"{TITLE}: {os.path.splitext(os.path.basename(path))[0]}"
    size = {"width": canvas.width, "height": canvas.height}
    job = worker.ask(
        "stylize",
        canvas.pixels(),
        content={**size, "format": canvas.format},
        style={"file": path},
        options=options_of(config, worker.settings, canvas.width, canvas.height),
        previews=PREVIEW_SECONDS if sight.live else 0,
        result=canvas.format,
    )
    asked = None
    looked = time.monotonic()
    try:
        while True:
            for event, pixels in worker.answers(sight.patience):
                if event.get("id") != job:
                    continue
                kind = event["event"]
                if kind == "progress":
                    sight.progress(event["fraction"], _in_words(event))
                elif kind == "preview" and asked is None:
                    canvas.show(event["width"], event["height"], pixels, name, sight.goes_on)
                elif kind == "result":
                    canvas.hide()
                    return canvas.keep(pixels, name)
                elif kind == "cancelled":
                    if asked == "stop":
                        # There was nothing to keep yet.
                        raise Cancelled
                    raise Trouble("The painting was ended by the program that paints; try again")
                elif kind == "error":
                    raise Trouble(_explained(event))
            if time.monotonic() > looked + 0.5:
                canvas.check()
                looked = time.monotonic()
            wish = sight.wish()
            if wish and wish != asked:
                worker.ask(wish, job=job)
                asked = wish
                if wish == "cancel":
                    raise Cancelled
    finally:
        canvas.hide()


def _in_words(event):
    left = event["seconds_left"]
    return event["message"] + (f", {duration(left)} to go" if left is not None else "")


def _explained(event):
    text = event["message"].rstrip(".")
    # The worker speaks of the command line's flags; here they are lines of the dialog.
    text = re.sub(r"use --size (\d+)", r"choose less Detail, or Work at \1 pixels", text)
    text = re.sub(r"use a (\w+) --size( or fewer --scales)?", r"choose a \1 Detail", text)
    text = text.replace("leave --original-size out", "scale the picture down first")
    if event["code"] in ("internal", "malformed"):
        text += f" (details in {event['log']})"
    return text


def duration(seconds):
    """A time as people say it."""
    if seconds < 5:
        return "a few seconds"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} seconds"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"


class Console:
    """A run that a script asked for: progress in GIMP's own bar, nothing to wish for."""

    live = False
    patience = 0.2

    def __init__(self):
        Gimp.progress_init(TITLE)

    def close(self):
        Gimp.progress_end()

    def progress(self, fraction, text):
        Gimp.progress_set_text(text)
        Gimp.progress_update(fraction)

    def wish(self):
        return None

    def wait(self, seconds):
        time.sleep(seconds)


# Windows ------------------------------------------------------------------------------------------


def toolkit():
    """Gtk and GimpUi, which only runs with a screen may load."""
    gi.require_version("GimpUi", "3.0")
    gi.require_version("Gtk", "3.0")
    from gi.repository import GimpUi, Gtk

    return Gtk, GimpUi


def wait_in_gtk(seconds):
    """Let windows live for some time."""
    context = GLib.MainContext.default()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not context.iteration(False):
            time.sleep(0.005)


class Progress:
    """A small window with how far it is, Stop and Cancel.

    Not GIMP's own progress bar: that one's Cancel kills the plug-in on the spot.
    """

    live = True
    patience = 0.0

    def __init__(self):
        gtk, gimp_ui = toolkit()
        self._wish = None
        self._window = gtk.Window(title=TITLE, resizable=False)
        self._window.set_border_width(12)
        self._window.set_position(gtk.WindowPosition.CENTER)
        self._window.connect("delete-event", lambda *_: self._choose("cancel"))
        self._window.connect("key-press-event", self._pressed)
        gimp_ui.window_set_transient(self._window)
        column = gtk.Box(orientation=gtk.Orientation.VERTICAL, spacing=9)
        self._bar = gtk.ProgressBar()
        self._text = gtk.Label(label="Getting ready", xalign=0, width_chars=58)
        row = gtk.Box(spacing=6, homogeneous=True, halign=gtk.Align.END)
        self._stop = gtk.Button(label="_Stop", use_underline=True)
        self._stop.set_tooltip_text("End now and keep what is there")
        self._stop.connect("clicked", lambda _: self._choose("stop"))
        self._cancel = gtk.Button(label="_Cancel", use_underline=True)
        self._cancel.set_tooltip_text("End now and leave the picture as it was")
        self._cancel.connect("clicked", lambda _: self._choose("cancel"))
        for widget in (self._text, self._bar, row):
            column.pack_start(widget, False, False, 0)
        for button in (self._stop, self._cancel):
            row.pack_start(button, False, True, 0)
        self._window.add(column)
        self._window.show_all()
        wait_in_gtk(0.05)
        self._move_aside()

    def _move_aside(self):
        """To the lower edge of the screen, where the picture can be seen (not under Wayland)."""
        display = self._window.get_display()
        monitor = display.get_primary_monitor() or display.get_monitor(0)
        if monitor:
            area = monitor.get_workarea()
            width, height = self._window.get_size()
            # The title bar and a little air come on top.
            top = area.y + area.height - height - 80
            self._window.move(area.x + (area.width - width) // 2, max(area.y, top))

    def progress(self, fraction, text):
        self._bar.set_fraction(min(1.0, fraction))
        if self._wish is None:
            self._text.set_text(text)

    def wish(self):
        """What the painter has asked for by now: None, ``stop`` or ``cancel``."""
        wait_in_gtk(0.03)
        return self._wish

    def goes_on(self):
        """Let the windows live for a moment; whether nothing is wished."""
        wait_in_gtk(0.001)
        return self._wish is None

    def wait(self, seconds):
        """Wait while there is nothing to keep; raises Cancelled if the painter wishes an end."""
        wait_in_gtk(seconds)
        if self._wish:
            raise Cancelled

    def close(self):
        self._window.destroy()
        wait_in_gtk(0.02)

    def _pressed(self, window, event):
        from gi.repository import Gdk

        return event.keyval == Gdk.KEY_Escape and self._choose("cancel")

    def _choose(self, wish):
        self._wish = wish
        self._stop.set_sensitive(False)
        self._text.set_text("Keeping what is there" if wish == "stop" else "Cancelling")
        return True


class Dialog:
    """GIMP's own dialog for a procedure, with the painting to look at and the time it takes."""

    def __init__(self, procedure, config, settings, canvas):
        gtk, gimp_ui = toolkit()
        self._gtk, self._config, self._settings, self._canvas = gtk, config, settings, canvas
        self._worker = None
        self._answered = False
        self._painting = None
        self._refused = False
        self._estimate = None
        self._due = None
        self._dialog = gimp_ui.ProcedureDialog.new(procedure, config, TITLE)
        names = [item["name"] for item in settings.arguments if not item["advanced"]]
        folded = [item["name"] for item in settings.arguments if item["advanced"]]
        self._dialog.get_scale_entry("strength", 1.0)
        painting = self._dialog.fill_box("painting", ["style"])
        self._thumbnail = gtk.Image(height_request=140)
        painting.pack_start(self._thumbnail, False, False, 6)
        self._hint = gtk.Label()
        painting.pack_start(self._hint, False, False, 0)
        self._dialog.fill_box("advanced-box", folded)
        self._dialog.get_label("advanced-title", "Advanced", False, False)
        self._dialog.fill_expander("advanced", "advanced-title", False, "advanced-box")
        rest = self._dialog.fill_box("rest", names)
        self._says = gtk.Label(xalign=0, wrap=True, width_chars=44, max_width_chars=44)
        self._says.set_text("Getting ready")
        rest.pack_start(self._says, False, False, 6)
        self._dialog.fill(["painting", "rest", "advanced"])
        for name in ("style", *names, *folded):
            config.connect(f"notify::{name}", self._changed)
        self._show_painting()
        self._says.show()
        self._hint.show()
        self._thumbnail.show()

    def run(self):
        """Whether the painter wants it painted."""
        self._dialog.connect("response", self._answer)
        GLib.idle_add(self._begin)
        timer = GLib.timeout_add(60, self._listen)
        try:
            return self._dialog.run()
        finally:
            GLib.source_remove(timer)
            if self._worker:
                self._worker.close()
            self._dialog.destroy()
            wait_in_gtk(0.02)

    def _begin(self):
        """Start the worker while the painter still chooses."""
        try:
            self._worker = Worker(self._settings, self._wait)
            options = options_of(
                self._config, self._settings, self._canvas.width, self._canvas.height
            )
            self._worker.ask("prepare", options=options)
            self._ask()
        except Trouble as trouble:
            self._says.set_text(f"{trouble}.")
        except Cancelled:
            pass
        return GLib.SOURCE_REMOVE

    def _answer(self, dialog, response):
        # Help and Reset are answers too, after which the dialog goes on.
        kinds = self._gtk.ResponseType
        self._answered = response in (kinds.OK, kinds.CANCEL, kinds.DELETE_EVENT)

    def _wait(self, seconds):
        """Wait for the worker, unless the dialog is over before it is there."""
        wait_in_gtk(seconds)
        if self._answered:
            raise Cancelled

    def _changed(self, config, parameter):
        if parameter.name == "style":
            self._show_painting()
        if parameter.name not in ("strength", "color", "seed"):
            self._due = time.monotonic() + 0.3

    def _ask(self):
        """Ask how long it would take."""
        canvas = self._canvas
        options = options_of(self._config, self._settings, canvas.width, canvas.height)
        size = {"width": canvas.width, "height": canvas.height}
        if self._estimate is not None:
            self._worker.ask("cancel", job=self._estimate)
        style = {"style": {"file": self._painting}} if self._painting else {}
        self._estimate = self._worker.ask("estimate", content=size, options=options, **style)

    def _listen(self):
        try:
            if self._worker:
                if self._due and time.monotonic() >= self._due:
                    self._due = None
                    self._ask()
                for event, _ in self._worker.answers():
                    if event.get("id") != self._estimate:
                        continue
                    if event["event"] == "progress":
                        self._says.set_text(event["message"])
                        continue
                    if event["event"] != "cancelled":
                        self._says.set_text(self._told(event))
                        self._refused = event["event"] == "error"
                        self._offer()
                    self._estimate = None
        except Trouble as trouble:
            self._worker = None
            self._says.set_text(f"{trouble}.")
        return GLib.SOURCE_CONTINUE

    def _offer(self):
        """OK can be pressed when there is a painting, and nothing is known that would fail."""
        able = self._painting is not None and not self._refused
        self._dialog.set_response_sensitive(self._gtk.ResponseType.OK, able)

    def _told(self, event):
        if event["event"] == "error":
            return f"{_explained(event)}."
        text = duration(event["seconds"])
        return (
            f"{text[0].upper()}{text[1:]}, painted at {event['width']} × {event['height']} pixels, "
            f"{event['memory'] / 1e9:.1f} GB of memory{self._overridden()}."
        )

    def _overridden(self):
        """What is set where it may be folded away."""
        values = self._config.get_property("size"), self._config.get_property("iterations")
        return " (as set under Advanced)" if any(values) else ""

    def _show_painting(self):
        file = self._config.get_property("style")
        path = file.get_path() if file else None
        self._thumbnail.set_tooltip_text("The painting whose style is taken")
        there = bool(path) and os.path.isfile(path)
        self._painting = path if there else None
        self._refused = False
        self._offer()
        self._hint.set_text("" if there else "Choose a painting: any picture whose style you like.")
        if there:
            try:
                from gi.repository import GdkPixbuf

                small = GdkPixbuf.Pixbuf.new_from_file_at_scale(path, 260, 140, True)
                self._thumbnail.set_from_pixbuf(small.apply_embedded_orientation() or small)
                return
            except GLib.Error:
                # A format that only the worker reads.
                pass
        self._thumbnail.set_from_icon_name("image-x-generic", self._gtk.IconSize.DIALOG)


# The plug-in --------------------------------------------------------------------------------------


class NeuralStyle(Gimp.PlugIn):
    """Registers the procedure and runs it."""

    def do_set_i18n(self, name):
        return False

    def do_query_procedures(self):
        return [NAME]

    def do_create_procedure(self, name):
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, self.run, None)
        # Indexed pictures too: a sentence says more than a grey menu.
        procedure.set_image_types("*")
        procedure.set_sensitivity_mask(Gimp.ProcedureSensitivityMask.DRAWABLE)
        procedure.set_menu_label("_Neural Style...")
        procedure.add_menu_path("<Image>/Filters/Artistic")
        procedure.set_documentation(
            "Repaint the layer in the style of a painting",
            "Neural style transfer by Gatys' method. The result is a new layer above; a selection "
            "becomes its mask.",
            name,
        )
        procedure.set_attribution("nstrt", "nstrt", "2026")
        procedure.add_file_argument(
            "style",
            "_Painting",
            "The painting whose style is taken: a picture file. All of it counts, so crop frames "
            "and margins first.",
            Gimp.FileChooserAction.OPEN,
            True,
            None,
            GObject.ParamFlags.READWRITE,
        )
        try:
            arguments = Settings.read().arguments
        except Trouble:
            # The procedure is there all the same, and says what is wrong when it is run.
            arguments = []
        for item in arguments:
            try:
                _add(procedure, item)
            except (KeyError, TypeError, ValueError):
                # A damaged nstrt.json: running it says so.
                break
        return procedure

    def run(self, procedure, mode, image, drawables, config, data):
        """Run the filter; every way out is one of GIMP's return values."""
        status, text = Gimp.PDBStatusType.SUCCESS, None
        try:
            self._run(procedure, mode, image, drawables, config)
        except Cancelled:
            status = Gimp.PDBStatusType.CANCEL
        except Trouble as trouble:
            status, text = Gimp.PDBStatusType.EXECUTION_ERROR, f"{trouble}."
        except Exception as error:
            # A bug: GIMP shows nothing of an exception that leaves here.
            import traceback

            traceback.print_exc()
            status = Gimp.PDBStatusType.EXECUTION_ERROR
            text = f"The filter failed ({type(error).__name__}: {error})."
        return procedure.new_return_values(status, GLib.Error(text) if text else None)

    def _run(self, procedure, mode, image, drawables, config):
        Gegl.init(None)
        settings = Settings.read()
        canvas = Canvas(image, drawables)
        if mode == Gimp.RunMode.NONINTERACTIVE:
            self._paint(canvas, config, settings, Console)
            return
        _, gimp_ui = toolkit()
        gimp_ui.init(NAME)
        if (
            mode == Gimp.RunMode.INTERACTIVE
            and not Dialog(procedure, config, settings, canvas).run()
        ):
            raise Cancelled
        if mode == Gimp.RunMode.INTERACTIVE:
            # The picture, the layer and the selection may be others by now.
            canvas.check()
            canvas = Canvas(image, drawables)
        self._paint(canvas, config, settings, Progress)

    @staticmethod
    def _paint(canvas, config, settings, sights):
        painting_of(config)
        sight = sights()
        try:
            worker = Worker(settings, sight.wait)
            try:
                paint(worker, canvas, config, sight)
            finally:
                # Whatever may still be under way ends with the connection.
                worker.close()
        finally:
            sight.close()


def _add(procedure, item):
    """Give the procedure an argument that nstrt.json describes."""
    head = item["name"], item["label"], item["help"]
    flags = GObject.ParamFlags.READWRITE
    if item["kind"] == "choice":
        choice = Gimp.Choice.new()
        for number, (value, words) in enumerate(item["choices"]):
            choice.add(value, number, words, "")
        procedure.add_choice_argument(*head, choice, item["default"], flags)
    elif item["kind"] == "int":
        limits = int(item["least"]), int(item["most"])
        procedure.add_int_argument(*head, *limits, item["default"], flags)
    else:
        procedure.add_double_argument(*head, item["least"], item["most"], item["default"], flags)


Gimp.main(NeuralStyle.__gtype__, sys.argv)
