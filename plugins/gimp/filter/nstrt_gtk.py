"""GTK, loaded only for runs with windows: without a display GTK ends the process."""

import time

import gi
from gi.repository import GLib


def load_gtk():
    """Return the modules Gtk and GimpUi."""
    gi.require_version("GimpUi", "3.0")
    gi.require_version("Gtk", "3.0")
    from gi.repository import GimpUi, Gtk

    return Gtk, GimpUi


def run_main_loop(seconds):
    """Handle GTK's events for ``seconds``."""
    context = GLib.MainContext.default()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not context.iteration(False):
            time.sleep(0.005)
