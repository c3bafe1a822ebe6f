"""Progress displays: GIMP's own bar for scripts, a window with Stop and Cancel for users."""

import time

from gi.repository import Gimp
from nstrt_errors import Cancelled
from nstrt_gtk import load_gtk, run_main_loop
from nstrt_stylize import TITLE


class ScriptProgress:
    """GIMP's own progress bar, for runs from scripts; it has no Stop and no Cancel."""

    shows_previews = False
    poll_seconds = 0.2

    def __init__(self):
        Gimp.progress_init(TITLE)

    def close(self):
        Gimp.progress_end()

    def update(self, fraction, text):
        Gimp.progress_set_text(text)
        Gimp.progress_update(fraction)

    def user_request(self):
        return None

    def wait(self, seconds):
        time.sleep(seconds)


class ProgressWindow:
    """Window with a progress bar, Stop and Cancel.

    GIMP's own bar does not serve: its Cancel kills the plug-in at once.
    """

    shows_previews = True
    poll_seconds = 0.0

    def __init__(self):
        gtk, gimp_ui = load_gtk()
        self._request = None
        self._window = gtk.Window(title=TITLE, resizable=False)
        self._window.set_border_width(12)
        self._window.set_position(gtk.WindowPosition.CENTER)
        self._window.connect("delete-event", lambda *_: self._set_request("cancel"))
        self._window.connect("key-press-event", self._on_key)
        gimp_ui.window_set_transient(self._window)
        column = gtk.Box(orientation=gtk.Orientation.VERTICAL, spacing=9)
        self._bar = gtk.ProgressBar()
        self._label = gtk.Label(label="Getting ready", xalign=0, width_chars=58)
        row = gtk.Box(spacing=6, homogeneous=True, halign=gtk.Align.END)
        self._stop = gtk.Button(label="_Stop", use_underline=True)
        self._stop.set_tooltip_text("End now and keep what is there")
        self._stop.connect("clicked", lambda _: self._set_request("stop"))
        self._cancel = gtk.Button(label="_Cancel", use_underline=True)
        self._cancel.set_tooltip_text("End now and leave the picture as it was")
        self._cancel.connect("clicked", lambda _: self._set_request("cancel"))
        for widget in (self._label, self._bar, row):
            column.pack_start(widget, False, False, 0)
        for button in (self._stop, self._cancel):
            row.pack_start(button, False, True, 0)
        self._window.add(column)
        self._window.show_all()
        run_main_loop(0.05)
        self._move_to_lower_edge()

    def update(self, fraction, text):
        self._bar.set_fraction(min(1.0, fraction))
        if self._request is None:
            self._label.set_text(text)

    def user_request(self):
        """Return the user's request so far: None, ``stop`` or ``cancel``."""
        run_main_loop(0.03)
        return self._request

    def keep_going(self):
        """Handle GTK's events; returns False once the user made a request."""
        run_main_loop(0.001)
        return self._request is None

    def wait(self, seconds):
        """Wait for the worker to start; raises Cancelled on any request: nothing can be kept."""
        run_main_loop(seconds)
        if self._request:
            raise Cancelled

    def close(self):
        self._window.destroy()
        run_main_loop(0.02)

    def _move_to_lower_edge(self):
        """Move the window off the picture; Wayland ignores this."""
        display = self._window.get_display()
        monitor = display.get_primary_monitor() or display.get_monitor(0)
        if monitor:
            area = monitor.get_workarea()
            width, height = self._window.get_size()
            # 80 pixels for the title bar and a margin.
            top = area.y + area.height - height - 80
            self._window.move(area.x + (area.width - width) // 2, max(area.y, top))

    def _on_key(self, window, event):
        from gi.repository import Gdk

        return event.keyval == Gdk.KEY_Escape and self._set_request("cancel")

    def _set_request(self, request):
        self._request = request
        self._stop.set_sensitive(False)
        self._label.set_text("Keeping what is there" if request == "stop" else "Cancelling")
        return True
