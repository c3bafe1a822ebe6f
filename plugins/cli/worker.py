"""``nstrt worker``: a process that paints for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nstrt.runtime.errors import OptionError

__all__ = ["EXAMPLES", "command"]

EXAMPLES = """
nstrt worker
nstrt worker --socket /run/user/1000/nstrt/worker.sock --host-pid 4711
"""

IDLE = 900.0
"""Default seconds without a connection or a job after which a worker ends."""


def command(
    socket: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Listen at a Unix socket instead of standard input and output.",
            show_default=False,
        ),
    ] = None,
    loopback: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Listen on 127.0.0.1 instead, and write port and token to FILE.",
            show_default=False,
        ),
    ] = None,
    host_pid: Annotated[
        int | None,
        typer.Option(
            metavar="PID", help="End within a second of this process.", show_default=False
        ),
    ] = None,
    idle: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="End when there was neither a connection nor a job for so long.",
            show_default=False,
        ),
    ] = IDLE,
) -> int:
    """Paint for other programs, over the protocol of docs/worker.md."""
    from nstrt.plugins.worker.listener import listen_loopback, listen_unix
    from nstrt.plugins.worker.serve import serve_socket, serve_standard_streams

    if socket is not None and loopback is not None:
        raise OptionError("A worker listens in one place: choose --socket or --loopback.")
    if not 0 < idle < 1e9:
        raise OptionError("--idle must be a number of seconds above 0.")
    if host_pid is not None and host_pid < 1:
        raise OptionError("--host-pid must be the number of a process.")
    if socket is not None:
        serve_socket(listen_unix, socket, host_pid=host_pid, idle=idle)
    elif loopback is not None:
        serve_socket(listen_loopback, loopback, host_pid=host_pid, idle=idle)
    else:
        serve_standard_streams(host_pid=host_pid)
    return 0
