"""Measure the worker's time to the first preview and its reaction to cancel.

python benchmarks/worker.py [--cancels 8]

The first preview of a 1200 x 800 photo, sent as pixels, is measured in a new process with exported
models, again in the same process, and after ``prepare``. Then jobs of 512 pixels are cancelled at
random moments of preparation and painting; the results are seconds from ``cancel`` to its ``ok``
and to the job's ``cancelled``.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nstrt.plugins.worker.client import Client
from nstrt.plugins.worker.messages import EndOfStream
from nstrt.plugins.worker.streams import PipeStream

EXAMPLES = Path(__file__).parents[1] / "examples"
PATIENCE = 300.0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cancels", type=int, default=8)
    args = parser.parse_args(arguments)
    with Image.open(EXAMPLES / "cat.jpg") as picture:
        photo = np.asarray(picture.convert("RGB").resize((1200, 800)))

    # The first job exports models and stores measurements for the following ones.
    first = Host()
    first.job({"op": "estimate", "content": {"width": 1200, "height": 800}, "options": FAST})
    first.until("estimate")
    first.end()

    host = Host()
    print(f"hello                        {host.started:6.2f} s after the start")
    print(f"first preview, cold          {first_preview(host, photo):6.2f} s")
    print(f"first preview, warm          {first_preview(host, photo):6.2f} s")
    host.end()
    host = Host()
    started = time.perf_counter()
    host.job({"op": "prepare", "options": FAST})
    host.until("ready")
    print(f"prepare                      {time.perf_counter() - started:6.2f} s")
    print(f"first preview, prepared      {first_preview(host, photo):6.2f} s")
    print("cancel at 512 pixels      after  acknowledged    done")
    source = random.Random(3)
    for number in range(args.cancels):
        if number == args.cancels // 2:
            host.end()
        # Each job of the second half runs in a new process, during or shortly after preparation.
        if number >= args.cancels // 2:
            host = Host()
        seconds = source.uniform(0.2, 8.0) if number < args.cancels // 2 else number % 4 + 0.4
        job = stylize(host, photo, previews=1.0, scales=1)
        moment = host.wait(seconds)
        sent_at = time.perf_counter()
        host.send({"op": "cancel", "id": f"cancel {number}", "job": job})
        acknowledged = host.until("ok")[0] - sent_at
        done = host.until("cancelled")[0] - sent_at
        print(
            f"  {moment[:24]:<24} {seconds:4.1f} s  {acknowledged:8.3f} s  {done:8.3f} s",
            flush=True,
        )
        if number >= args.cancels // 2:
            host.end()


FAST: dict[str, Any] = {"preset": "fast", "size": 512, "original_size": True}


def first_preview(host: Host, photo: np.ndarray[Any, Any]) -> float:
    """Return the seconds to the first preview, and cancel the job."""
    sent_at = time.perf_counter()
    job = stylize(host, photo, previews=1.0)
    seconds = host.until("preview")[0] - sent_at
    host.send({"op": "cancel", "id": "end", "job": job})
    host.until("cancelled")
    return seconds


def stylize(host: Host, photo: np.ndarray[Any, Any], *, previews: float, **options: Any) -> int:
    height, width, _ = photo.shape
    return host.job(
        {
            "op": "stylize",
            "content": {"width": width, "height": height, "format": "rgb8"},
            "style": {"file": str(EXAMPLES / "night.jpg")},
            "options": {**FAST, **options},
            "previews": previews,
        },
        photo.tobytes(),
    )


class Host:
    """Worker process with a thread that reads its events."""

    def __init__(self) -> None:
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nstrt.plugins.cli", "worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._client = Client(
            PipeStream(self._process.stdout.fileno(), self._process.stdin.fileno())
        )
        self._events: queue.Queue[tuple[float, dict[str, Any]]] = queue.Queue()
        hello = self._client.handshake()
        if hello["event"] != "hello":
            raise SystemExit(hello["message"])
        self.started = time.perf_counter() - started
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, request: dict[str, Any], pixels: bytes | None = None) -> None:
        self._client.send(pixels, **request)

    def job(self, request: dict[str, Any], pixels: bytes | None = None) -> int:
        id = self._client.new_id()
        self.send({"id": id, **request}, pixels)
        return id

    def until(self, kind: str) -> tuple[float, dict[str, Any]]:
        """Return the next event of a kind and its time."""
        while True:
            at, event = self._events.get(timeout=PATIENCE)
            if event["event"] == kind:
                return at, event
            if event["event"] == "error":
                raise SystemExit(event["message"])

    def wait(self, seconds: float) -> str:
        """Read events for some seconds and return the last progress message."""
        end = time.perf_counter() + seconds
        message = ""
        while (left := end - time.perf_counter()) > 0:
            try:
                message = self._events.get(timeout=left)[1].get("message", message)
            except queue.Empty:
                break
        return message

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)

    def _read(self) -> None:
        with contextlib.suppress(EndOfStream, OSError):
            while True:
                event = self._client.receive()
                self._events.put((time.perf_counter(), event))


if __name__ == "__main__":
    main()
