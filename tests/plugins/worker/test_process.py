"""The worker process: where it listens, how it ends, and which errors it survives."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from nstrt.plugins.worker.client import hello_request
from nstrt.plugins.worker.messages import EndOfStream, encode

from support import EXAMPLES, Network
from support.command_line import NSTRT, run_nstrt
from support.mutated_messages import PIXELS, mutated
from support.worker_host import (
    LONG,
    PATIENCE,
    SMALL,
    Host,
    another_host,
    at_socket,
    connect,
    end,
    standard_streams,
    start,
)

CAT, NIGHT = str(EXAMPLES / "cat.jpg"), str(EXAMPLES / "night.jpg")
PHOTO = np.random.default_rng(5).integers(0, 256, (32, 48, 4), np.uint8)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here"),
]


@pytest.fixture(scope="module", autouse=True)
def no_bugs(own_cache: Path) -> Iterator[None]:
    """No worker of these tests logs a trace."""
    yield
    for log in (own_cache / "logs").iterdir():
        assert "Traceback" not in log.read_text()


def test_a_socket_for_its_user_alone_and_for_many_hosts(tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "new folder/worker.sock"
    with at_socket(path) as (host, process):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert os.getpgid(process.pid) != os.getpgid(0)
        with another_host(path) as other:
            # Ids and hello belong to a connection.
            assert other.request("cancel", job=1)["code"] == "hello-first"
            assert other.hello()["pid"] == process.pid
        assert host.request("cancel", job=1)["running"] is False
        # Refused before its 2.7 GB come.
        large = {"width": 30_000, "height": 30_000, "format": "rgb8"}
        with another_host(path) as other:
            other.hello()
            other.send(op="stylize", id=7, content=large, style={"file": NIGHT},
                       nbytes=2_700_000_000)  # fmt: skip
            assert other.wait_for(7, "error")["code"] == "too-large"
        process.send_signal(signal.SIGTERM)
        with pytest.raises(EndOfStream):
            host.receive()
        assert process.wait(PATIENCE) == 0
        assert not path.exists()


def test_one_worker_is_left_of_five_that_start_at_once(tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "worker.sock"
    # A worker that was killed left its socket behind.
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    started = [start("--socket", str(path)) for _ in range(5)]
    try:
        deadline = time.monotonic() + PATIENCE
        while sum(process.poll() is None for process in started) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        left = [process for process in started if process.poll() is None]
        assert [process.returncode for process in started if process not in left] == [0] * 4
        # Each of the four left when the fifth listened.
        with another_host(path) as host:
            assert host.hello()["pid"] == left[0].pid
            assert host.request("quit")["event"] == "ok"
        assert left[0].wait(PATIENCE) == 0
        assert not path.exists()
    finally:
        for process in started:
            end(process)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--socket", "{}/" + "x" * 200], "socket"),
        (["--socket", "{}"], "socket"),
        (["--socket", "{}/file"], "no socket"),
        (["--socket", "{}/file/worker.sock"], "file"),
        (["--loopback", "{}/file/endpoint"], "file"),
        (["--socket", "{}/a", "--loopback", "{}/b"], "choose"),
        (["--socket", "{}/a", "--host-pid", "99999999"], "no process"),
        (["--socket", "{}/a", "--host-pid", "0"], "process"),
        (["--socket", "{}/a", "--idle", "nan"], "seconds"),
    ],
)
def test_what_cannot_start_says_why(arguments: list[str], words: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = run_nstrt("worker", *(argument.format(tmp_path) for argument in arguments))
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_loopback_wants_its_token(tmp_path: Path, own_cache: Path) -> None:
    file = tmp_path / "endpoint.json"
    process = start("--loopback", str(file))
    try:
        deadline = time.monotonic() + PATIENCE
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        endpoint = json.loads(file.read_text())
        address = "127.0.0.1", endpoint["port"]
        good = endpoint["token"]
        for first in (
            hello_request(),
            hello_request(token=good[:-1]),
            {**hello_request(), "token": [good]},
            hello_request(token="\ud800"),
            {"op": "quit"},
            {"op": "quit", "token": good},
            ["hello"],
        ):
            with connect(address) as connection:
                host = Host(connection.fileno(), connection.fileno())
                host.stream.send(memoryview(json.dumps(first).encode() + b"\n"))
                assert host.receive()["code"] == "denied"
                with pytest.raises(EndOfStream):
                    host.receive()
        with connect(address) as connection:
            host = Host(connection.fileno(), connection.fileno())
            assert host.hello(token=good)["pid"] == process.pid
            # A second worker for the same file leaves.
            assert start("--loopback", str(file)).wait(PATIENCE) == 0
            assert json.loads(file.read_text()) == endpoint
            assert host.request("quit")["event"] == "ok"
        assert process.wait(PATIENCE) == 0
        assert not file.exists()
    finally:
        end(process)


def test_it_ends_when_nobody_needs_it(tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "worker.sock"
    with at_socket(path, "--idle", "1.5") as (host, process):
        # A connection keeps the worker.
        time.sleep(2.5)
        assert host.request("cancel", job=1)["running"] is False
        with another_host(path) as other:
            assert other.hello()["event"] == "hello"
        assert process.poll() is None
    process = start("--socket", str(path), "--idle", "0.3")
    try:
        assert process.wait(PATIENCE) == 0
        assert not path.exists()
    finally:
        end(process)


@pytest.mark.parametrize("painting", [False, True])
def test_it_ends_with_its_host(painting: bool, tmp_path: Path, small_network: Network) -> None:
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        path = tmp_path / "worker.sock"
        with at_socket(path, "--host-pid", str(program.pid)) as (host, process):
            if painting:
                job = host.begin(PHOTO, NIGHT, LONG, previews=0.001)
                host.wait_for(job, "preview")
            program.kill()
            # It takes up to a second; on a busy machine more.
            process.wait(10)
            assert not path.exists()
    finally:
        end(program)


def test_who_says_all_at_once_is_answered(own_cache: Path) -> None:
    requests = [
        hello_request(),
        {"op": "estimate", "id": 1, "content": {"file": "cat.jpg"}},
        {"op": "stop", "id": 2, "job": 1},
    ]
    done = subprocess.run(
        [*NSTRT, "worker"],
        input=b"".join(json.dumps(request).encode() + b"\n" for request in requests),
        capture_output=True,
        timeout=PATIENCE,
    )
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == [
        "hello",
        "error",
        "ok",
    ]
    assert (done.returncode, done.stderr) == (0, b"")


def test_it_ends_with_its_input_whatever_it_does(small_network: Network) -> None:
    for moment in (None, "progress", "preview"):
        with standard_streams() as (host, process):
            host.hello()
            job = host.begin(PHOTO, NIGHT, LONG, previews=0.001)
            if moment is not None:
                host.wait_for(job, moment)
            assert process.stdin
            process.stdin.close()
            assert process.wait(10) == 0


def test_a_host_that_goes_takes_its_jobs_along(tmp_path: Path, small_network: Network) -> None:
    path = tmp_path / "worker.sock"
    with at_socket(path) as (host, _):
        with another_host(path) as other:
            other.hello()
            running = other.begin(PHOTO, NIGHT, LONG, previews=0.001)
            other.wait_for(running, "preview")
            other.begin(PHOTO, NIGHT, LONG)
        assert host.paint(PHOTO, NIGHT)[-1]["event"] == "result"
        # The next host closes in the middle of its pixels.
        with another_host(path) as other:
            other.hello()
            other.send(b"x" * 1000, op="stylize", id=1, nbytes=3 * 400 * 400, options=SMALL,
                       content={"width": 400, "height": 400, "format": "rgb8"},
                       style={"file": NIGHT})  # fmt: skip
        assert host.paint(PHOTO, NIGHT)[-1]["event"] == "result"


def test_a_killed_worker_leaves_a_socket_that_the_next_one_takes(
    tmp_path: Path, small_network: Network
) -> None:
    path = tmp_path / "worker.sock"
    source = random.Random(9)
    for latest in (0.1, 1.0, 4.0):
        with at_socket(path) as (host, process):
            host.begin(PHOTO, NIGHT, LONG, previews=0.001)
            time.sleep(source.uniform(0, latest))
            process.kill()
            with pytest.raises(EndOfStream):
                host.wait_for(None, "the end")
            assert path.exists()
    with at_socket(path) as (host, _):
        assert host.paint(PHOTO, NIGHT)[-1]["event"] == "result"


# Valid messages to mutate. None loads a network: their pictures do not exist.
BASES = [
    hello_request(),
    hello_request(),
    {"op": "estimate", "id": 2, "content": {"file": "/nowhere/cat.jpg"}, "options": SMALL},
    {"op": "stylize", "id": 3, "content": PIXELS, "style": {"file": "/nowhere/night.jpg"},
     "nbytes": 1200, "options": SMALL, "previews": 1, "result": "rgbaf"},
    {"op": "cancel", "id": 4, "job": 3},
    {"op": "stop", "id": 5, "job": 3},
]  # fmt: skip


def test_2500_mutated_messages_leave_it_as_it_was(tmp_path: Path, small_network: Network) -> None:
    source = random.Random(17)
    path = tmp_path / "worker.sock"
    hello = encode(hello_request())
    memory = []
    with at_socket(path) as (host, process):
        log = Path(host.hello()["log"])
        assert host.paint(PHOTO, NIGHT)[-1]["event"] == "result"
        for _ in range(250):
            with connect(str(path)) as connection:
                connection.settimeout(PATIENCE)
                data = b"".join(mutated(source, BASES) for _ in range(10))
                data = data.replace(b'"quit"', b'"quiz"')
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(hello + data)
                    connection.shutdown(socket.SHUT_WR)
                    # A payload that never comes ends with the connection.
                    while connection.recv(1 << 16):
                        pass
            memory.append(psutil.Process(process.pid).memory_info().rss / 1e6)
        assert host.paint(PHOTO, NIGHT)[-1]["event"] == "result"
        assert "Traceback" not in log.read_text()
        assert max(memory[200:]) - max(memory[:50]) < 6, memory[::25]
        assert psutil.Process(process.pid).num_threads() < 40
