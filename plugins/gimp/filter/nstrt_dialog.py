"""The filter's dialog."""

import os
import time

from gi.repository import GLib
from nstrt_client import WorkerClient
from nstrt_errors import Cancelled, UserError
from nstrt_gtk import load_gtk, run_main_loop
from nstrt_stylize import TITLE, duration, error_text, worker_options

POLL_MILLISECONDS = 60

ESTIMATE_DELAY = 0.3
"""Seconds from a changed value to a new estimate."""


class Dialog:
    """GIMP's own dialog for a procedure, with the painting's thumbnail and a time estimate."""

    def __init__(self, procedure, config, settings, canvas):
        gtk, gimp_ui = load_gtk()
        self._gtk, self._config, self._settings, self._canvas = gtk, config, settings, canvas
        self._client = None
        self._closing = False
        self._style_path = None
        self._refused = False
        self._estimate_id = None
        self._estimate_due = None
        self._dialog = gimp_ui.ProcedureDialog.new(procedure, config, TITLE)
        names = [item["name"] for item in settings.arguments if not item["advanced"]]
        advanced = [item["name"] for item in settings.arguments if item["advanced"]]
        self._dialog.get_scale_entry("strength", 1.0)
        painting = self._dialog.fill_box("painting", ["style"])
        self._thumbnail = gtk.Image(height_request=140)
        painting.pack_start(self._thumbnail, False, False, 6)
        self._hint = gtk.Label()
        painting.pack_start(self._hint, False, False, 0)
        self._dialog.fill_box("advanced-box", advanced)
        self._dialog.get_label("advanced-title", "Advanced", False, False)
        self._dialog.fill_expander("advanced", "advanced-title", False, "advanced-box")
        rest = self._dialog.fill_box("rest", names)
        self._estimate = gtk.Label(xalign=0, wrap=True, width_chars=44, max_width_chars=44)
        self._estimate.set_text("Getting ready")
        rest.pack_start(self._estimate, False, False, 6)
        self._dialog.fill(["painting", "rest", "advanced"])
        for name in ("style", *names, *advanced):
            config.connect(f"notify::{name}", self._on_change)
        self._show_style()
        self._estimate.show()
        self._hint.show()
        self._thumbnail.show()

    def run(self):
        """Show the dialog; returns True if the user chose OK."""
        self._dialog.connect("response", self._on_response)
        GLib.idle_add(self._start_worker)
        timer = GLib.timeout_add(POLL_MILLISECONDS, self._poll_worker)
        try:
            return self._dialog.run()
        finally:
            GLib.source_remove(timer)
            if self._client:
                self._client.close()
            self._dialog.destroy()
            run_main_loop(0.02)

    def _start_worker(self):
        """Start the worker and load its network while the user chooses."""
        try:
            self._client = WorkerClient(self._settings, self._wait)
            self._client.request("prepare", options=self._options())
            self._request_estimate()
        except UserError as error:
            self._estimate.set_text(f"{error}.")
        except Cancelled:
            pass
        return GLib.SOURCE_REMOVE

    def _wait(self, seconds):
        """Wait for the worker; raises Cancelled once the dialog is closing."""
        run_main_loop(seconds)
        if self._closing:
            raise Cancelled

    def _on_response(self, dialog, response):
        # Help and Reset are responses too; after them the dialog stays open.
        kinds = self._gtk.ResponseType
        self._closing = response in (kinds.OK, kinds.CANCEL, kinds.DELETE_EVENT)

    def _on_change(self, config, parameter):
        if parameter.name == "style":
            self._show_style()
        # The others change neither time nor memory.
        if parameter.name not in ("strength", "color", "seed"):
            self._estimate_due = time.monotonic() + ESTIMATE_DELAY

    def _options(self):
        return worker_options(self._config, self._settings, self._canvas.width, self._canvas.height)

    def _request_estimate(self):
        size = {"width": self._canvas.width, "height": self._canvas.height}
        if self._estimate_id is not None:
            self._client.request("cancel", job=self._estimate_id)
        style = {"style": {"file": self._style_path}} if self._style_path else {}
        self._estimate_id = self._client.request(
            "estimate", content=size, options=self._options(), **style
        )

    def _poll_worker(self):
        """Request an estimate that is due, and show the answers."""
        try:
            if self._client:
                if self._estimate_due and time.monotonic() >= self._estimate_due:
                    self._estimate_due = None
                    self._request_estimate()
                for event, _ in self._client.events():
                    if event.get("id") == self._estimate_id:
                        self._show_answer(event)
        except UserError as error:
            self._client = None
            self._estimate.set_text(f"{error}.")
        return GLib.SOURCE_CONTINUE

    def _show_answer(self, event):
        if event["event"] == "progress":
            self._estimate.set_text(event["message"])
            return
        if event["event"] != "cancelled":
            self._estimate.set_text(self._answer_text(event))
            self._refused = event["event"] == "error"
            self._update_ok()
        self._estimate_id = None

    def _answer_text(self, event):
        if event["event"] == "error":
            return f"{error_text(event)}."
        text = duration(event["seconds"])
        return (
            f"{text[0].upper()}{text[1:]}, painted at {event['width']} × {event['height']} pixels, "
            f"{event['memory'] / 1e9:.1f} GB of memory{self._advanced_note()}."
        )

    def _advanced_note(self):
        """Name the fold that overrides Detail and Quality, which may be closed."""
        values = self._config.get_property("size"), self._config.get_property("iterations")
        return " (as set under Advanced)" if any(values) else ""

    def _update_ok(self):
        """Enable OK if there is a painting and the last estimate was not refused."""
        able = self._style_path is not None and not self._refused
        self._dialog.set_response_sensitive(self._gtk.ResponseType.OK, able)

    def _show_style(self):
        """Show the painting's thumbnail, or a hint if there is none."""
        file = self._config.get_property("style")
        path = file.get_path() if file else None
        self._thumbnail.set_tooltip_text("The painting whose style is taken")
        found = bool(path) and os.path.isfile(path)
        self._style_path = path if found else None
        self._refused = False
        self._update_ok()
        self._hint.set_text("" if found else "Choose a painting: any picture whose style you like.")
        if found:
            try:
                from gi.repository import GdkPixbuf

                small = GdkPixbuf.Pixbuf.new_from_file_at_scale(path, 260, 140, True)
                self._thumbnail.set_from_pixbuf(small.apply_embedded_orientation() or small)
                return
            except GLib.Error:
                # A format that only the worker reads.
                pass
        self._thumbnail.set_from_icon_name("image-x-generic", self._gtk.IconSize.DIALOG)
