"""Memory and places of a worker belong to nobody who only announces."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from nstrt.plugins.worker.jobs import Job
from nstrt.plugins.worker.messages import MessageReader, RequestError
from nstrt.plugins.worker.outbox import Outbox
from nstrt.plugins.worker.pixel_memory import PixelMemory, PixelShare
from nstrt.plugins.worker.requests import Prepare
from nstrt.runtime.options.options import StylizeOptions

from support import EXAMPLES, Network
from support.worker_host import (
    PATIENCE,
    SMALL,
    Host,
    another_host,
    at_socket,
    connect,
    end,
    reach,
    start,
)

PHOTO = np.random.default_rng(5).integers(0, 256, (32, 48, 4), np.uint8)
NIGHT = str(EXAMPLES / "night.jpg")

needs_sockets = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets"
)


def payload(size: int, share: PixelShare) -> bytearray:
    """Receive ``size`` bytes of pixels in parts of 100."""
    left = [json.dumps({"nbytes": size}).encode() + b"\n", *[bytes(100)] * (size // 100)]
    reader = MessageReader(lambda limit: left.pop(0) if left else b"")
    reader.header()
    return reader.payload(share.grow)


def test_pixels_of_all_connections_have_one_bound() -> None:
    memory = PixelMemory(lambda: 2000)
    first, second = memory.share(), memory.share()
    assert len(payload(600, first)) == 600
    with pytest.raises(RequestError, match="memory together") as caught:
        payload(600, second)
    assert caught.value.code == "busy"
    second.release()
    assert len(payload(300, second)) == 300
    first.release()
    first.release()
    assert len(payload(600, first)) == 600


def test_pixels_of_a_job_count_until_it_has_ended() -> None:
    memory = PixelMemory(lambda: 2000)
    share = memory.share()
    pixels = payload(600, share)
    outbox = Outbox(lambda data: None, memory)
    request = Prepare(1, StylizeOptions.of())
    job = Job(request, pixels, outbox, log="", requested=0.0, share=share)
    with pytest.raises(RequestError):
        memory.check_room(900)
    job.cancel()
    memory.check_room(900)


def test_results_that_nobody_reads_count() -> None:
    memory = PixelMemory(lambda: 2000)
    outbox = Outbox(lambda data: time.sleep(60), memory)
    for step in range(10):
        outbox.put({"event": "preview", "step": step}, memoryview(bytes(200)), replacing="preview")
    memory.check_room(400)
    outbox.put({"event": "result"}, memoryview(bytes(700)))
    with pytest.raises(RequestError):
        memory.check_room(400)
    outbox.close()
    memory.check_room(400)


@pytest.mark.slow
@needs_sockets
def test_announced_pixels_take_no_memory(tmp_path: Path, own_cache: Path) -> None:
    with at_socket(tmp_path / "sock") as (host, process), contextlib.ExitStack() as stack:
        before = psutil.Process(process.pid).memory_info().rss
        for _ in range(10):
            other = stack.enter_context(another_host(tmp_path / "sock"))
            assert other.hello()["event"] == "hello"
            # Half a gigabyte, and a megabyte of it.
            other.send(
                bytes(1 << 20),
                op="stylize",
                id=1,
                nbytes=16 * 5600 * 5600,
                content={"width": 5600, "height": 5600, "format": "rgbaf"},
                style={"file": NIGHT},
                options=SMALL,
            )
        time.sleep(1)
        assert psutil.Process(process.pid).memory_info().rss - before < 200e6
        assert host.request("cancel", job=1)["running"] is False


@contextlib.contextmanager
def silent(address: str | tuple[str, int], count: int) -> Iterator[None]:
    """Connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connect(address))
        yield


@pytest.mark.slow
@needs_sockets
@pytest.mark.parametrize("option", ["--socket", "--loopback"])
def test_silent_strangers_keep_no_host_out(option: str, tmp_path: Path, own_cache: Path) -> None:
    file = tmp_path / "worker"
    process = start(option, str(file))
    try:
        deadline = time.monotonic() + PATIENCE
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        address: str | tuple[str, int] = str(file)
        token = None
        if option == "--loopback":
            endpoint = json.loads(file.read_text())
            address, token = ("127.0.0.1", endpoint["port"]), endpoint["token"]
        with connect(address) as early:
            patient = Host(early.fileno(), early.fileno())
            assert patient.hello(token=token)["event"] == "hello"
            with silent(address, 100):
                begun = time.monotonic()
                with connect(address) as connection:
                    host = Host(connection.fileno(), connection.fileno())
                    assert host.hello(token=token)["pid"] == process.pid
                    host.close()
                assert time.monotonic() - begun < 10
                # Who said hello before keeps its place.
                assert patient.request("cancel", job=1, token=token)["running"] is False
            patient.close()
    finally:
        end(process)


@pytest.mark.slow
@needs_sockets
def test_places_are_for_64_hosts_that_said_hello(tmp_path: Path, own_cache: Path) -> None:
    with at_socket(tmp_path / "sock") as (host, _), contextlib.ExitStack() as stack:
        hosts = [stack.enter_context(another_host(tmp_path / "sock")) for _ in range(63)]
        assert {other.hello()["event"] for other in hosts} == {"hello"}
        with another_host(tmp_path / "sock") as late:
            assert late.hello()["code"] == "busy"
        hosts[0].stream.close()
        assert host.hello()["event"] == "hello"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits another process")
def test_hosts_without_memory_for_their_threads_end_no_worker(
    tmp_path: Path, own_cache: Path
) -> None:
    import resource

    with at_socket(tmp_path / "sock") as (_, process):
        taken = psutil.Process(process.pid).memory_info().vms
        resource.prlimit(process.pid, resource.RLIMIT_AS, (taken + (20 << 20), -1))
        with silent(str(tmp_path / "sock"), 20):
            time.sleep(1)
        resource.prlimit(process.pid, resource.RLIMIT_AS, (-1, -1))
        with another_host(tmp_path / "sock") as other:
            assert other.hello()["event"] == "hello"


@pytest.mark.slow
@needs_sockets
def test_a_pipe_for_weights_blocks_no_other_job(tmp_path: Path, small_network: Network) -> None:
    os.mkfifo(tmp_path / "weights.pth")
    process = start("--socket", str(tmp_path / "sock"))
    try:
        with reach(tmp_path / "sock", process) as connection:
            host = Host(connection.fileno(), connection.fileno())
            host.hello()
            for name, code in (("weights", "weights"), ("init", "picture")):
                options = {**SMALL, name: str(tmp_path / "weights.pth")}
                last = host.paint(PHOTO, NIGHT, options)[-1]
                assert (last["event"], last.get("code")) == ("error", code), last
            assert host.paint(PHOTO, NIGHT)[-1]["event"] == "result"
            host.close()
    finally:
        end(process)
