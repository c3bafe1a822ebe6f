"""Connects to the worker of this GIMP, and starts its process if none listens."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import time

from nstrt_errors import UserError
from nstrt_settings import PROTOCOL

DROPPED_VARIABLES = (
    "GI_TYPELIB_PATH",
    "LD_LIBRARY_PATH",
    "GEGL_PATH",
    "BABL_PATH",
    "NSTRT_CACHE",
)
"""Variables of GIMP's environment, besides Python's, that the worker does not inherit."""

START_SECONDS = 30
"""Seconds that a new worker has to listen."""


def open_connection(settings, wait):
    """Return a socket to the worker and its token, or None where it has no token.

    ``wait(seconds)`` is called while the worker starts. Raises UserError if it does not start.
    """
    posix = hasattr(socket, "AF_UNIX")
    # The version is in the name: an updated filter must not reach a worker of the version before.
    name = f"gimp-{os.getppid()}-{settings.version}-{PROTOCOL}"
    endpoint = os.path.join(_runtime_folder(), name + (".sock" if posix else ".json"))
    connection = _connect(endpoint)
    if connection:
        return connection
    with tempfile.TemporaryFile() as stderr:
        process = _start(settings, ["--socket" if posix else "--loopback", endpoint], stderr)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            # Polled before connecting: a worker that leaves for another one exits only when that
            # one listens.
            ended = process.poll()
            connection = _connect(endpoint)
            if connection:
                return connection
            if ended is not None:
                stderr.seek(0)
                raise _start_error(settings, stderr.read().decode(errors="replace"))
            wait(0.03)
        process.kill()
    raise UserError(
        "The program that paints does not answer; start GIMP again, and if it happens again, "
        f"look into {settings.log}"
    )


def _connect(endpoint):
    """Connect to a worker that listens at ``endpoint``; None if none does."""
    token = None
    try:
        if endpoint.endswith(".sock"):
            connection = socket.socket(socket.AF_UNIX)
            address = endpoint
        else:
            with open(endpoint, encoding="utf-8") as file:
                content = json.load(file)
            connection = socket.socket(socket.AF_INET)
            token = content["token"]
            address = ("127.0.0.1", content["port"])
    except (OSError, ValueError, KeyError):
        return None
    try:
        connection.settimeout(5)
        connection.connect(address)
    except OSError:
        connection.close()
        return None
    return connection, token


def _start(settings, listen_options, stderr):
    """Start a worker process that ends with this GIMP."""
    command = [*settings.command, *listen_options, "--host-pid", str(os.getppid())]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name not in DROPPED_VARIABLES
    }
    environment.update(settings.environment)
    windows = sys.platform == "win32"
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env=environment,
            # GIMP ends a plug-in together with its process group; the worker stays.
            start_new_session=not windows,
            creationflags=subprocess.CREATE_NO_WINDOW if windows else 0,
        )
    except OSError:
        if os.path.exists("/.flatpak-info"):
            raise UserError(
                "GIMP from a Flatpak cannot reach nstrt; use your distribution's GIMP 3"
            ) from None
        raise UserError(
            f"The Python of nstrt is not there any more ({command[0]}); set nstrt up again, "
            "then run in a terminal: nstrt gimp install"
        ) from None


def _start_error(settings, output):
    """Explain why a worker ended at once, from its standard error."""
    missing = re.search(r"No module named '?([\w.]+)", output)
    if missing:
        return UserError(
            f"The Python of nstrt has no {missing[1].split('.')[0]} any more; set nstrt up "
            "again, then run in a terminal: nstrt gimp install"
        )
    lines = [line for line in output.splitlines() if line.startswith("nstrt: ")]
    if not lines:
        return UserError(
            "The program that paints ended as soon as it was started; try again, and if it "
            f"happens again, run in a terminal: {settings.mend}"
        )
    why = lines[-1].removeprefix("nstrt: ").rstrip(".")
    return UserError(
        f"The program that paints does not start ({why}); mend it by running this in a "
        f"terminal: {settings.mend}"
    )


def _runtime_folder():
    """Return a folder for sockets that only this user can enter, made if it is missing."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if not (base and os.path.isdir(base)):
        base = tempfile.gettempdir()
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    folder = os.path.join(base, f"nstrt-{user}")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        state = os.lstat(folder)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made ({error.strerror})") from None
    if hasattr(os, "getuid"):
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != user:
            raise UserError(f"The folder {folder} belongs to somebody else, who has to delete it")
        if state.st_mode & 0o077:
            os.chmod(folder, 0o700)
    return folder
