#!/usr/bin/env python3
"""Filters > Artistic > Neural Style: a GIMP 3 plug-in that repaints a layer in a painting's style.

It runs in GIMP's own Python and imports the standard library, gi, and the ``nstrt_*.py`` beside
this file. nstrt's worker paints: another process with its own Python, which stays warm between
runs. ``nstrt gimp install`` writes its command line to ``nstrt.json`` beside this file.
docs/worker.md describes the protocol.
"""

import os
import sys

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("Gegl", "0.4")
from gi.repository import Gegl, Gimp, GLib, GObject  # noqa: E402

# Python puts this folder there itself, but not where PYTHONSAFEPATH is set.
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
# No __pycache__ in GIMP's folder.
sys.dont_write_bytecode = True

from nstrt_canvas import Canvas  # noqa: E402
from nstrt_client import WorkerClient  # noqa: E402
from nstrt_dialog import Dialog  # noqa: E402
from nstrt_errors import Cancelled, UserError  # noqa: E402
from nstrt_gtk import load_gtk  # noqa: E402
from nstrt_progress import ProgressWindow, ScriptProgress  # noqa: E402
from nstrt_settings import Settings  # noqa: E402
from nstrt_stylize import style_path, stylize  # noqa: E402

NAME = "plug-in-nstrt-stylize"

# This file may be a link to a checkout; nstrt.json lies beside the link.
FOLDER = os.path.dirname(os.path.abspath(__file__))


class NeuralStyle(Gimp.PlugIn):
    """Registers the procedure and runs it."""

    def do_set_i18n(self, name):
        return False

    def do_query_procedures(self):
        return [NAME]

    def do_create_procedure(self, name):
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, self.run, None)
        # Includes indexed images: a sentence explains more than a grey menu entry.
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
            arguments = Settings.read(FOLDER).arguments
        except UserError:
            # The procedure is registered all the same: running it reports the error.
            arguments = []
        for item in arguments:
            try:
                _add_argument(procedure, item)
            except (KeyError, TypeError, ValueError):
                # A damaged nstrt.json: running the procedure reports it.
                break
        return procedure

    def run(self, procedure, mode, image, drawables, config, data):
        """Run the filter; every outcome becomes one of GIMP's return values."""
        status, text = Gimp.PDBStatusType.SUCCESS, None
        try:
            _run(procedure, mode, image, drawables, config)
        except Cancelled:
            status = Gimp.PDBStatusType.CANCEL
        except UserError as error:
            status, text = Gimp.PDBStatusType.EXECUTION_ERROR, f"{error}."
        except Exception as error:
            # A bug: GIMP shows nothing of an exception that leaves here.
            import traceback

            traceback.print_exc()
            status = Gimp.PDBStatusType.EXECUTION_ERROR
            text = f"The filter failed ({type(error).__name__}: {error})."
        return procedure.new_return_values(status, GLib.Error(text) if text else None)


def _run(procedure, mode, image, drawables, config):
    Gegl.init(None)
    settings = Settings.read(FOLDER)
    canvas = Canvas(image, drawables)
    if mode == Gimp.RunMode.NONINTERACTIVE:
        _stylize(canvas, config, settings, ScriptProgress)
        return
    _, gimp_ui = load_gtk()
    gimp_ui.init(NAME)
    if mode == Gimp.RunMode.INTERACTIVE:
        if not Dialog(procedure, config, settings, canvas).run():
            raise Cancelled
        # Image, layer and selection may have changed while the dialog was open.
        canvas.check()
        canvas = Canvas(image, drawables)
    _stylize(canvas, config, settings, ProgressWindow)


def _stylize(canvas, config, settings, display):
    """Stylize the canvas with a progress display of the class ``display``."""
    style_path(config)
    progress = display()
    try:
        client = WorkerClient(settings, progress.wait)
        try:
            stylize(client, canvas, config, progress)
        finally:
            # Cancels a job that still runs.
            client.close()
    finally:
        progress.close()


def _add_argument(procedure, item):
    """Add an argument that nstrt.json describes to the procedure."""
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
