"""Printing lines on consoles that may lack characters, be closed, full or never read."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import stat
import sys
from collections.abc import Callable
from typing import IO, Any

__all__ = ["lost_output", "print_err", "print_out", "printer", "protect_streams"]

PATIENCE = 1.0
"""Seconds for which a full stderr is waited for; after that, lines are dropped until it is read."""

_PIPE_BYTES = 4096
"""Bytes that a pipe with room takes without waiting."""


def print_out(line: str) -> None:
    """Print a line on stdout."""
    _write(line, sys.stdout)


def print_err(line: str) -> None:
    """Print a line on stderr."""
    _write(line, sys.stderr)


def printer(*, quiet: bool) -> Callable[[str], None]:
    """Return :func:`print_err`, or a function that prints nothing."""
    return (lambda line: None) if quiet else print_err


def protect_streams(*, stdout_patience: float | None = None) -> None:
    """Let no state of the standard streams end this process or stop it for good.

    Missing streams become empty ones. Output that cannot be written is dropped, and so are lines
    for stderr while nobody reads it. Output for stdout is dropped if nobody reads it for
    ``stdout_patience`` seconds; None waits.
    """
    patience = {"stdout": stdout_patience, "stderr": PATIENCE}
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, _empty_stream(descriptor, mode))
        elif mode == "w":
            setattr(sys, name, _tolerant_stream(getattr(sys, name), patience[name]))
    # Windows has neither such pipes nor the flag.
    with contextlib.suppress(OSError, AttributeError):
        _unblock_pipe(2)


def lost_output() -> str:
    """Reason why lines for stdout were lost; empty if none was, or if their reader left."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = raw.error if isinstance(raw, _TolerantRaw) else None
    # "nstrt info | head" has all that it wants.
    left = error is None or error.errno in (errno.EPIPE, errno.ECONNRESET, errno.EINVAL)
    return "" if left or error is None else (error.strerror or str(error))


class _TolerantRaw(io.RawIOBase):
    """A file whose writes do not fail, and wait for a reader for ``patience`` seconds at most."""

    def __init__(self, raw: Any, patience: float | None) -> None:
        self._raw = raw
        self._patience = None if sys.platform == "win32" else patience
        self._left = self._patience
        """Seconds to wait for a reader now; none after the first that did not come."""
        self.error: OSError | None = None
        """The first error of a write."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return bool(self._raw.isatty())
        return False

    def write(self, data: Any) -> int:
        try:
            if self._patience is not None and not self._has_reader():
                return len(data)
            part = memoryview(data)[:_PIPE_BYTES]
            while (written := self._raw.write(part)) is None:
                # Another program made the file description non-blocking.
                if self._patience is not None:
                    return len(data)
                self._poll(None)
            return int(written)
        except OSError as error:
            self.error = self.error or error
        except ValueError:
            # The underlying file is closed.
            pass
        return len(data)

    def _has_reader(self) -> bool:
        ready = self._poll(self._left)
        self._left = self._patience if ready else 0.0
        return ready

    def _poll(self, seconds: float | None) -> bool:
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        return bool(poll.poll(None if seconds is None else 1000 * seconds))


def _tolerant_stream(stream: Any, patience: float | None) -> Any:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if raw is None or isinstance(raw, _TolerantRaw):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_TolerantRaw(raw, patience)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
    )


def _unblock_pipe(descriptor: int) -> None:
    """Let libraries that print to a full pipe of this descriptor lose their output, not wait."""
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        # A new file description: other programs that share the old one go on waiting.
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
        os.dup2(own, descriptor)
        os.close(own)


def _empty_stream(descriptor: int, mode: str) -> IO[str]:
    """A stream to nowhere, at its standard descriptor unless another file has that by now.

    Otherwise the next opened file, such as a picture, would receive what libraries print.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)
        os.set_inheritable(descriptor, True)
        return open(descriptor, mode, encoding="utf-8", closefd=False)
    return open(os.devnull, mode, encoding="utf-8")


def _write(line: str, stream: IO[str] | None) -> None:
    if stream is None:
        # print() would take stdout for it.
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    printable = line.encode(encoding, "backslashreplace").decode(encoding)
    with contextlib.suppress(OSError, ValueError):
        print(printable, file=stream, flush=True)
