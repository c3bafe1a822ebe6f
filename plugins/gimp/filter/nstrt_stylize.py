"""Runs one stylize job: the dialog's values become options, the job's events change the canvas."""

import os
import time

from gi.repository import Gimp
from nstrt_errors import Cancelled, UserError

TITLE = "Neural Style"

DETAIL_SIZES = {"draft": 256, "normal": None, "fine": 768}
"""Long side in pixels that is painted at, by the dialog's Detail; None for the worker's default."""

PREVIEW_SECONDS = 2.0

CHECK_SECONDS = 0.5
"""Seconds between checks that the layer still exists."""


def worker_options(config, settings, width, height):
    """Return the worker's options for the dialog's values and a picture of ``width x height``."""
    options = {"original_size": True}
    for item in settings.arguments:
        value = config.get_property(item["name"])
        if item["option"] and value != item["unset"]:
            options[item["option"]] = value
    if "size" not in options:
        detail = config.get_property("detail")
        size = max(width, height) if detail == "full" else DETAIL_SIZES[detail]
        if size:
            options["size"] = size
    if "size" in options:
        # A larger size would only enlarge the picture first.
        options["size"] = max(16, min(options["size"], max(width, height)))
    return options


def style_path(config):
    """Return the painting's path; raises UserError if there is no such file."""
    file = config.get_property("style")
    if file is None:
        raise UserError("Choose a painting first: any picture file whose style you like")
    path = file.get_path()
    if path is None:
        raise UserError("The painting must be a file on this computer")
    if not os.path.isfile(path):
        raise UserError(f"There is no painting '{path}' any more; choose another one")
    return path


def stylize(client, canvas, config, progress):
    """Paint the canvas; returns the new layer.

    ``progress`` shows how far the job is and returns the user's requests. Raises UserError or
    Cancelled.
    """
    path = style_path(config)
    name = f"{TITLE}: {os.path.splitext(os.path.basename(path))[0]}"
    size = {"width": canvas.width, "height": canvas.height}
    job = client.request(
        "stylize",
        canvas.read_pixels(),
        content={**size, "format": canvas.format},
        style={"file": path},
        options=worker_options(config, client.settings, canvas.width, canvas.height),
        previews=PREVIEW_SECONDS if progress.shows_previews else 0,
        result=canvas.format,
    )
    try:
        return _wait_for_result(client, job, canvas, name, progress)
    finally:
        canvas.hide_preview()


def _wait_for_result(client, job, canvas, name, progress):
    """Handle the job's events and the user's requests until the result is inserted."""
    requested = None
    checked = time.monotonic()
    while True:
        for event, pixels in client.events(progress.poll_seconds):
            if event.get("id") != job:
                continue
            kind = event["event"]
            if kind == "progress":
                progress.update(event["fraction"], _progress_text(event))
            elif kind == "preview" and requested is None:
                canvas.show_preview(
                    event["width"], event["height"], pixels, name, progress.keep_going
                )
            elif kind == "result":
                canvas.hide_preview()
                layer = canvas.insert_result(pixels, name)
                if event.get("notes"):
                    Gimp.message("\n".join(event["notes"]))
                return layer
            elif kind == "cancelled":
                if requested == "stop":
                    # The job had no picture yet.
                    raise Cancelled
                raise UserError("The painting was ended by the program that paints; try again")
            elif kind == "error":
                raise UserError(error_text(event))
        if time.monotonic() > checked + CHECK_SECONDS:
            canvas.check()
            checked = time.monotonic()
        request = progress.user_request()
        if request and request != requested:
            client.request(request, job=job)
            requested = request
            if request == "cancel":
                raise Cancelled


def _progress_text(event):
    left = event["seconds_left"]
    return event["message"] + (f", {duration(left)} to go" if left is not None else "")


def error_text(event):
    """Return an error event's message, with the log where that may help."""
    text = event["message"].rstrip(".")
    if event["code"] in ("internal", "malformed"):
        text += f" (details in {event['log']})"
    return text


def duration(seconds):
    """Return a rounded duration in words."""
    if seconds < 5:
        return "a few seconds"
    if seconds < 90:
        return f"about {5 * round(seconds / 5)} seconds"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} minutes"
    return f"about {seconds / 3600:.1f} hours"
