"""The worker's protocol without a process: untrusted messages, pixels, jobs, the outbox."""

from __future__ import annotations

import inspect
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nstrt.plugins.worker import request_parser
from nstrt.plugins.worker.job_queue import MAX_WAITING, JobQueue
from nstrt.plugins.worker.jobs import Job
from nstrt.plugins.worker.messages import (
    MAX_LINE,
    EndOfStream,
    MessageReader,
    RequestError,
    encode,
)
from nstrt.plugins.worker.outbox import Outbox
from nstrt.plugins.worker.pixel_memory import PixelMemory
from nstrt.plugins.worker.pixels import FORMATS, from_pixels, to_pixels
from nstrt.plugins.worker.request_parser import parse_request
from nstrt.plugins.worker.requests import Prepare, Stylize
from nstrt.runtime import errors
from nstrt.runtime.errors import NstrtError
from nstrt.runtime.options.options import OPTIONS, StylizeOptions
from nstrt.runtime.pictures import MAX_PIXELS, MIN_SIDE, Picture
from nstrt.runtime.system.cancellation import Interrupted, check_interrupt

from support import ROOT
from support.mutated_messages import BASES, PIXELS, STYLIZE, mutated

PAGE = (ROOT / "docs/worker.md").read_text()
CODES = set(
    re.findall(
        r"`([a-z-]+)`",
        " ".join(row.split("|")[1] for row in re.findall(r"^\|.*\|$", PAGE, re.M)),
    )
) - set(FORMATS)


def reader(data: bytes, at_a_time: int = 1 << 20) -> MessageReader:
    pieces = iter([data[i : i + at_a_time] for i in range(0, len(data), at_a_time)])
    waiting = bytearray()

    def receive(most: int) -> bytes:
        if not waiting:
            waiting.extend(next(pieces, b""))
        piece = bytes(waiting[:most])
        del waiting[:most]
        return piece

    return MessageReader(receive)


@pytest.mark.parametrize("at_a_time", [1, 7, 1 << 20])
def test_messages_are_found_however_the_bytes_arrive(at_a_time: int) -> None:
    stream = reader(
        b'{"id": 1, "nbytes": 5}\nab\ncd{"id": 2, "nbytes": 3}\n\n\n\n{"id": 3}\n{"id"', at_a_time
    )
    assert stream.header() == {"id": 1, "nbytes": 5}
    assert stream.payload() == b"ab\ncd"
    assert stream.header()["id"] == 2
    # The payload of the second, which was not read, is discarded.
    assert stream.header()["id"] == 3
    with pytest.raises(EndOfStream):
        stream.header()


@pytest.mark.parametrize("at_a_time", [1000, 1 << 20])
def test_a_line_that_is_too_long_is_skipped_to_its_end(at_a_time: int) -> None:
    longest = b'{"id": "' + b" " * (MAX_LINE - 12) + b'"}\n'
    assert len(longest) == MAX_LINE - 1
    stream = reader(b'"' + b"x" * 3 * MAX_LINE + b'"\n' + longest + b" " + longest[1:], at_a_time)
    with pytest.raises(RequestError, match="longer than 64 KiB"):
        stream.header()
    assert list(stream.header()) == ["id"]


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"7", b"null", b'"op"', b"{", b"\xff", b"{'id': 1}", b'{"id": NaN}',
     b'{"id": Infinity}', b"[" * 60_000, b'{"a":' * 12_000, b'{"id": ' + b"9" * 60_000 + b"}",
     "{}".encode("utf-16"), b"\xef\xbb\xbf{}"],
)  # fmt: skip
def test_what_is_no_json_object_is_malformed(line: bytes) -> None:
    stream = reader(line + b'\n{"id": 7}\n')
    with pytest.raises(RequestError) as caught:
        stream.header()
    assert caught.value.code == "malformed"
    assert stream.header() == {"id": 7}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": None}, "malformed"),
        ({"id": True}, "malformed"),
        ({"id": 1.0}, "malformed"),
        ({"id": "x" * 65}, "malformed"),
        ({"id": 10**30}, "malformed"),
        ({"id": [1]}, "malformed"),
        ({"op": None}, "malformed"),
        ({"op": ["stylize"]}, "malformed"),
        ({"op": "paint"}, "unknown-op"),
        ({"op": ""}, "unknown-op"),
        ({"op": "hello"}, "malformed"),
        ({"op": "hello", "protocol": True}, "malformed"),
        ({"add_styles": PIXELS}, "malformed"),
        ({"add_styles": [7]}, "malformed"),
        ({"add_styles": [{"file": "/a.png"}] * 17}, "malformed"),
        ({"add_styles": [PIXELS]}, "malformed"),
        ({"regions": [PIXELS]}, "malformed"),
        ({"regions": [{"mask": {"file": "/a.png"}, "style": "/b.png"}]}, "malformed"),
        ({"regions": [{"mask": {"file": "a.png"}}]}, "picture"),
        ({"add_styles": [{"file": "/a.png", "mask": 7}]}, "malformed"),
        ({"style": {"file": "/a.png", "mask": {"file": "a.png"}}}, "picture"),
        ({"protect": []}, "malformed"),
        ({"protect": {"width": 20, "height": 20}}, "malformed"),
        ({"op": "estimate", "regions": [7]}, "malformed"),
        ({"op": "estimate", "regions": [{"style": "/a.png"}]}, "malformed"),
        ({"op": "estimate", "add_styles": {"width": 20}}, "malformed"),
        ({"op": "estimate", "add_styles": [{"width": 4, "height": 20}]}, "picture"),
        ({"op": "cancel"}, "malformed"),
        ({"op": "stop", "job": 1.5}, "malformed"),
        ({"nbytes": None}, "malformed"),
        ({"nbytes": -1}, "malformed"),
        ({"nbytes": True}, "malformed"),
        ({"nbytes": 2400.0}, "malformed"),
        ({"nbytes": "2400"}, "malformed"),
        ({"nbytes": 2401}, "malformed"),
        ({"nbytes": 10**4000}, "malformed"),
        ({"content": None}, "malformed"),
        ({"content": "/a.jpg"}, "malformed"),
        ({"content": {}}, "malformed"),
        ({"content": {**PIXELS, "width": True}}, "malformed"),
        ({"content": {**PIXELS, "width": 20.0}}, "malformed"),
        ({"content": {**PIXELS, "width": 0}}, "malformed"),
        ({"content": {**PIXELS, "width": -20, "height": -20}}, "malformed"),
        ({"content": {**PIXELS, "width": 10**100}}, "malformed"),
        ({"content": {**PIXELS, "format": "rgb32"}}, "malformed"),
        ({"content": {**PIXELS, "format": ["rgb8"]}}, "malformed"),
        ({"content": {"file": 7}}, "malformed"),
        ({"content": {"file": ""}}, "malformed"),
        ({"style": {"file": "night.jpg"}, "nbytes": 1200}, "picture"),
        ({"style": {"file": "/tmp/a\0b"}, "nbytes": 1200}, "picture"),
        ({"content": {**PIXELS, "width": 15}, "nbytes": 2100}, "picture"),
        ({"content": {**PIXELS, "width": 40_000, "height": 40_000},
          "nbytes": 4_800_001_200}, "too-large"),
        ({"op": "estimate", "content": {"width": 30_000, "height": 30_000}}, "too-large"),
        ({"op": "estimate", "content": {"width": 30_000}}, "malformed"),
        ({"previews": True}, "malformed"),
        ({"previews": -1}, "malformed"),
        ({"previews": "2"}, "malformed"),
        ({"previews": 1e999}, "malformed"),
        ({"result": "png"}, "malformed"),
        ({"result": {}}, "malformed"),
        ({"options": []}, "malformed"),
        ({"options": None}, "malformed"),
        ({"options": {"sise": 64}}, "option"),
        ({"options": {"cls": 64}}, "option"),
        ({"options": {"self": 64}}, "option"),
        ({"options": {"": 64}}, "option"),
        ({"options": {"size": "64"}}, "option"),
        ({"options": {"size": 15}}, "option"),
        ({"options": {"size": 10**400}}, "option"),
        ({"options": {"size": [64]}}, "option"),
        ({"options": {"preset": "slow"}}, "option"),
        ({"options": {"preset": ["fast"]}}, "option"),
        ({"options": {"preset": None}}, "option"),
        ({"options": {"strength": 1.1}}, "option"),
        ({"options": {"strength": True}}, "option"),
        ({"options": {"content_weight": 10**400}}, "option"),
        ({"options": {"iterations": {}}}, "option"),
        ({"options": {"iterations": [1, "2"]}}, "option"),
        ({"options": {"content_layers": 7}}, "option"),
        ({"options": {"content_layers": [[]]}}, "option"),
        ({"options": {"content_layers": {"relu1_1": "x"}}}, "option"),
        ({"options": {"content_layers": "relu9_9"}}, "option"),
        ({"options": {"init": "cat.jpg"}}, "option"),
        ({"options": {"weights": "../vgg.pth"}}, "option"),
    ],
)  # fmt: skip
def test_every_field_is_checked(change: dict[str, Any], code: str) -> None:
    with pytest.raises((RequestError, NstrtError)) as caught:
        parse_request({**STYLIZE, **change})
    assert caught.value.code == code
    assert str(caught.value).endswith((".", "?"))


def test_what_is_left_out_has_its_default() -> None:
    least = {key: STYLIZE[key] for key in ("op", "id", "nbytes", "content", "style")}
    request = parse_request({**least, "unknown": {"keys": "are ignored"}})
    assert isinstance(request, Stylize)
    assert request.options == StylizeOptions.of()
    assert (request.previews, request.result) == (0, FORMATS["rgba8"])


def test_pictures_have_the_limits_of_picture_files() -> None:
    assert (request_parser.MAX_PIXELS, request_parser.MIN_SIDE) == (MAX_PIXELS, MIN_SIDE)


def test_the_page_lists_the_choices_of_every_option() -> None:
    for name, spec in OPTIONS.items():
        if spec.choices:
            (row,) = re.findall(rf"^\| `{name}` \|.*\|(.*)\|.*\|$", PAGE, re.M)
            assert re.findall(r"`([\w-]+)`", row) == list(spec.choices)


def test_every_error_that_people_can_cause_has_a_code_of_the_page() -> None:
    assert {"malformed", "denied", "option", "internal", "package"} < CODES
    kinds = [
        kind for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, NstrtError) and kind not in {NstrtError, errors.ForkedProcessError}
    ]  # fmt: skip
    assert len(kinds) > 10
    assert {kind.code for kind in kinds} < CODES


# Pixels.


@pytest.mark.parametrize("name", FORMATS)
def test_formats_round_trip(name: str) -> None:
    random_ = np.random.default_rng(3)
    format = FORMATS[name]
    shape = (17, 23, format.channels)
    if name.endswith("f"):
        values = 1 - random_.random(shape, np.float32)
    else:
        values = random_.integers(1, np.iinfo(format.sample).max, shape, format.sample, True)
    picture = from_pixels(memoryview(values.tobytes()), width=23, height=17, format=format)
    assert picture.size == (23, 17)
    assert (picture.alpha is None) == (format.channels == 3)
    assert to_pixels(picture.rgb, picture.alpha, format) == values.tobytes()


def test_floats_outside_are_clipped_and_nan_is_black() -> None:
    values = np.full((16, 16, 4), 0.5, "<f4")
    values[0, 0] = [np.nan, np.inf, -np.inf, 1]
    values[1, 0, 3] = np.nan
    values[0, 1] = [-6.46, 1.82, -0.0, 2]
    data = memoryview(values.tobytes())
    picture = from_pixels(data, width=16, height=16, format=FORMATS["rgbaf"])
    assert picture.rgb[0, 0].tolist() == [0, 1, 0]
    assert picture.rgb[0, 1].tolist() == [0, 1, 0]
    assert picture.alpha is not None
    assert picture.alpha[0, :3].tolist() == [1, 1, 0.5]
    assert picture.alpha[1, 0] == 0


def test_transparency_that_a_format_or_picture_lacks() -> None:
    picture = Picture.from_array(np.full((16, 16, 4), 100, np.uint8))
    assert set(to_pixels(picture.rgb, picture.alpha, FORMATS["rgb8"])) == {100}
    opaque = np.frombuffer(to_pixels(picture.rgb, None, FORMATS["rgba16"]), "<u2")
    assert opaque.reshape(16, 16, 4)[0, 0].tolist() == [25700, 25700, 25700, 65535]


# Mutated messages.


def test_8000_mutated_messages_are_understood_or_refused() -> None:
    source = random.Random(11)
    started = time.monotonic()
    seen: dict[str, int] = {}
    for _ in range(400):
        stream = reader(b"".join(mutated(source, BASES) for _ in range(20)))
        try:
            while True:
                try:
                    kind = type(parse_request(stream.header())).__name__
                except (RequestError, NstrtError) as error:
                    kind = error.code
                    encode({"message": str(error)})
                seen[kind] = seen.get(kind, 0) + 1
        except EndOfStream:
            pass
        assert time.monotonic() - started < 60
    assert {"malformed", "unknown-op", "option", "picture", "Hello", "Stylize", "Cancel"} <= {*seen}


# A host that does not read; jobs.


class Slow:
    """A host that reads only when ``reads`` is set."""

    def __init__(self) -> None:
        self.reads = threading.Event()
        self.read: list[bytes] = []

    def send(self, data: memoryview) -> None:
        assert self.reads.wait(20)
        self.read.append(bytes(data))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read if line.startswith(b"{")]


@pytest.fixture
def slow() -> Iterator[Slow]:
    host = Slow()
    yield host
    host.reads.set()


def test_a_host_that_does_not_read_loses_previews_and_nothing_else(slow: Slow) -> None:
    outbox = Outbox(slow.send, PixelMemory())
    outbox.put({"event": "hello"})
    while outbox._waiting:
        time.sleep(0.01)
    for step in range(100):
        outbox.put({"event": "progress", "step": step}, replacing="progress")
        outbox.put({"event": "preview", "step": step}, memoryview(b"0" * 99), replacing="preview")
        outbox.put({"event": "ok", "step": step})
    outbox.put({"event": "result"}, memoryview(b"1" * 99))
    slow.reads.set()
    assert outbox.drain(20)
    events = slow.events
    assert [event["step"] for event in events if event["event"] == "ok"] == [*range(100)]
    assert [event["step"] for event in events if event["event"] == "preview"] == [99]
    assert [event["step"] for event in events if event["event"] == "progress"] == [99]
    assert events[0]["event"], events[-1]["event"] == ("hello", "result")
    assert slow.read[-1] == b"1" * 99


def job(outbox: Outbox, id: int = 1) -> Job:
    request = Prepare(id, StylizeOptions.of())
    return Job(request, None, outbox, log="/worker.log", requested=time.perf_counter())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.WeightsError("No weights\nhere."), "weights"),
        (errors.PackageMissingError("No torch."), "package"),
        (errors.ModelBuilderMissingError("No exporter."), "model"),
        (errors.ProviderUnavailableError("No card."), "provider"),
        (MemoryError(), "too-large"),
        (KeyError("bug"), "internal"),
        (SystemExit(3), "internal"),
    ],
)
def test_whatever_a_job_does_it_ends_with_its_code_and_the_next_has_its_turn(
    slow: Slow, error: BaseException, code: str
) -> None:
    slow.reads.set()
    outbox = Outbox(slow.send, PixelMemory())

    def do(job: Job) -> None:
        if job.request.id == 1:
            raise error
        job.finish("ready", {})

    queue = JobQueue(do, log="/worker.log")
    queue.add(job(outbox, 1))
    queue.add(job(outbox, 2))
    deadline = time.monotonic() + 20
    while len(slow.read) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    failed, ready = slow.events
    assert (failed["id"], failed["code"], failed["log"]) == (1, code, "/worker.log")
    assert "\n" not in failed["message"]
    assert (ready["id"], ready["event"]) == (2, "ready")


def test_a_job_that_is_cancelled_as_it_begins_has_no_pixels_any_more(slow: Slow) -> None:
    slow.reads.set()
    dropped = job(Outbox(slow.send, PixelMemory()))
    dropped.start()
    dropped.cancel()
    with pytest.raises(Interrupted):
        dropped.take_pixels()
    dropped.finish("ready", {})
    dropped.fail("internal", "late")
    deadline = time.monotonic() + 20
    while not slow.read:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [event["event"] for event in slow.events] == ["cancelled"]


def test_a_job_that_is_cancelled_ends_its_loading(slow: Slow) -> None:
    slow.reads.set()
    dropped = job(Outbox(slow.send, PixelMemory()))
    dropped.start()

    def load() -> None:
        with dropped.loading.governing():
            check_interrupt()
            dropped.cancel()
            check_interrupt()
            pytest.fail("the loading went on")

    with pytest.raises(Interrupted):
        load()


def test_the_queue_ends(slow: Slow) -> None:
    slow.reads.set()
    outbox = Outbox(slow.send, PixelMemory())
    go_on = threading.Event()
    queue = JobQueue(lambda job: (job.start(), go_on.wait(20)), log="")  # type: ignore[arg-type]
    jobs = [job(outbox, id) for id in range(MAX_WAITING + 2)]
    queue.add(jobs[0])
    deadline = time.monotonic() + 20
    while queue._waiting:
        assert time.monotonic() < deadline
    for waiting in jobs[1:-1]:
        queue.add(waiting)
    with pytest.raises(RequestError) as caught:
        queue.add(jobs[-1])
    assert caught.value.code == "busy"
    # A cancelled job makes room at once.
    jobs[5].cancel()
    queue.add(jobs[-1])
    assert queue.idle_since is None
    go_on.set()
    queue.cancel_all(20)
    assert queue.idle_since is not None
    assert outbox.drain(20)
    assert sorted(event["id"] for event in slow.events) == [*range(MAX_WAITING + 2)]
    assert {event["event"] for event in slow.events} == {"cancelled"}
