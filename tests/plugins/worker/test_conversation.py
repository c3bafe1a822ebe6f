"""Whole conversations with a real worker process."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from nstrt.plugins.worker.client import hello_request
from nstrt.runtime import stylize

from support import EXAMPLES, Network
from support.worker_host import LONG, SMALL, Host, array_of, description, standard_streams

pytestmark = pytest.mark.slow

CAT, NIGHT = str(EXAMPLES / "cat.jpg"), str(EXAMPLES / "night.jpg")

PHOTO = np.random.default_rng(5).integers(0, 256, (32, 48, 4), np.uint8)
PAINTING = PHOTO[::-1, ::-1, :3].copy()


class Worker:
    """One worker process, warm, for all tests of this file."""

    def __init__(self, host: Host, process: subprocess.Popen[bytes], cache: Path) -> None:
        self.host, self.process = host, process
        self.log = cache / "logs/worker.log"

    @property
    def memory(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)


@pytest.fixture(scope="module")
def worker(own_cache: Path, small_network: Network) -> Iterator[Worker]:
    with standard_streams() as (host, process):
        yield Worker(host, process, own_cache)
        assert "Traceback" not in (own_cache / "logs/worker.log").read_text()


@pytest.fixture
def host(worker: Worker) -> Host:
    """A connection to the worker, on which no job runs."""
    hello = worker.host.hello()
    assert hello.items() >= {
        "event": "hello", "protocol": 1, "pid": worker.process.pid, "log": str(worker.log),
    }.items()  # fmt: skip
    assert hello["nstrt"][0].isdigit()
    return worker.host


def test_a_job_is_dropped_at_once_while_it_gets_ready(small_network: Network) -> None:
    with standard_streams() as (host, _):
        host.hello()
        job = host.begin(PHOTO, PAINTING)
        assert host.wait_for(job, "progress")["message"] == "Getting ready"
        assert host.request("cancel", job=job)["running"] is True
        # The first two seconds load torch: there is no step yet to interrupt.
        assert [event["event"] for event in host.events_of(job)][-1] == "cancelled"
        assert host.paint(PHOTO, PAINTING)[-1]["event"] == "result"


def test_sentences_use_the_host_s_labels(host: Host) -> None:
    """Without labels options have plain names, never those of the command line."""

    def sentence(side: int = 100, **options: Any) -> str:
        size = {"width": 4000, "height": side}
        event = host.request("estimate", content=size, options={**SMALL, **options})
        assert event["event"] == "error"
        return str(event["message"])

    too_small = {"size": 256}
    assert sentence(**too_small).endswith("make size at least 640.")
    assert sentence(style_scale=50) == "style scale must be from 0.1 to 10, not 50."
    hello = host.new_id()
    host.send(**hello_request(hello), labels={"size": "Work at", "style_scale": "Stroke size"})
    assert host.wait_for(hello, "hello")["protocol"] == 1
    assert sentence(**too_small).endswith("make 'Work at' at least 640.")
    assert sentence(style_scale=50) == "'Stroke size' must be from 0.1 to 10, not 50."
    memory = sentence(4000, max_memory=1.5, size=4000, original_size=True)
    assert memory.endswith("scale the photo down first.") or re.search(
        r"use 'Work at' \d+\.|make max memory at least [\d.]+\.$", memory
    )
    for labels in (7, {"size": 7}, ["size"]):
        other = host.new_id()
        host.send(**hello_request(other), labels=labels)
        assert host.wait_for(other, "error")["code"] == "malformed"


def test_nothing_goes_before_hello(own_cache: Path) -> None:
    with standard_streams() as (host, _):
        host.send(b"12345", op="stylize", id=1)
        assert host.wait_for(1, "error")["code"] == "hello-first"
        host.send(**hello_request("two", protocol=2))
        error = host.wait_for("two", "error")
        assert error["code"] == "protocol"
        assert Path(error["log"]).is_file()
        assert host.request("cancel", job=1)["code"] == "hello-first"
        assert host.hello()["event"] == "hello"
        assert host.request("cancel", job=1)["running"] is False


def test_a_job_from_pixels_to_pixels(host: Host) -> None:
    events = host.paint(
        PHOTO, PAINTING, {**SMALL, "iterations": 30}, previews=0.001, result="rgba16"
    )
    kinds = [event["event"] for event in events]
    assert kinds[0] == "progress"
    assert {*kinds[:-1]} == {"progress", "preview"}
    for event in events[:-1]:
        if event["event"] == "progress":
            assert 0 <= event["fraction"] <= 1
            assert event["seconds"] >= 0
            assert event["seconds_left"] is None or event["seconds_left"] >= 0
            assert event["message"]
        else:
            assert (event["width"], event["height"], event["format"]) == (48, 32, "rgba8")
            # A preview is as transparent as the photo.
            assert np.array_equal(array_of(event)[..., 3], PHOTO[..., 3])
    result = events[-1]
    assert (result["width"], result["height"], result["format"]) == (48, 32, "rgba16")
    assert result["stopped"] is False
    assert result["seconds"] > 0
    assert 0 <= result["painted"] <= 1
    assert result["recipe"]["options"]["size"] == 48
    assert np.array_equal(array_of(result)[..., 3], PHOTO[..., 3] * np.uint16(257))
    assert np.abs(array_of(result)[..., :3] / 257 - PHOTO[..., :3]).mean() > 1


def test_a_job_from_files_at_the_photos_own_size(host: Host, tmp_path: Path) -> None:
    events = host.paint(CAT, NIGHT, {**SMALL, "original_size": True}, result="rgb8")
    from PIL import Image

    with Image.open(CAT) as photo:
        assert (events[-1]["width"], events[-1]["height"]) == photo.size
    assert "preview" not in [event["event"] for event in events]
    assert {event["message"] for event in events[:-1]} >= {"Getting ready"}


def test_a_job_with_several_paintings_regions_and_a_protected_part(
    host: Host, tmp_path: Path
) -> None:
    """Pixels follow in the documented order, with files between them."""
    left = np.zeros((32, 48, 3), np.uint8)
    left[:, :20] = 255
    low = np.zeros((32, 48), np.uint8)
    low[24:] = 255
    Image.fromarray(low).save(tmp_path / "low.png")
    corner = np.zeros_like(left)
    corner[:12, 30:] = 255
    third = np.rot90(PAINTING).copy()
    pictures = [PHOTO, PAINTING, third, left, third, corner]
    described = [description(values) for values in pictures]
    options = {**SMALL, "iterations": 4, "style_blend": [2, 1], "strength": 0.8}
    job = host.new_id()
    host.send(
        b"".join(values.tobytes() for values in pictures),
        op="stylize",
        id=job,
        content=described[0],
        style=described[1],
        add_styles=[{"file": NIGHT}, described[2]],
        regions=[
            {"mask": described[3], "style": described[4]},
            {"mask": {"file": str(tmp_path / "low.png")}},
        ],
        protect=described[5],
        options={**options, "style_blend": [2, 1, 1]},
        result="rgbf",
    )
    result = host.last_event(job)
    assert result["event"] == "result", result
    own = stylize(
        PHOTO,
        [PAINTING, NIGHT, third],
        regions=[(left, third), (low, None)],
        protect=corner,
        **{**options, "style_blend": (2, 1, 1)},
    )
    assert np.abs(array_of(result) - own.picture.rgb).max() < 1e-5
    assert len(result["recipe"]["styles"]) == 3
    assert [set(region) for region in result["recipe"]["regions"]] == [{"mask", "style"}, {"mask"}]


def test_style_pictures_are_followed_by_their_masks(host: Host, tmp_path: Path) -> None:
    height, width = PAINTING.shape[:2]
    left = np.zeros((height, width, 3), np.uint8)
    left[:, : width // 2] = 255
    right = 255 - left
    Image.fromarray(right).save(tmp_path / "right.png")
    where = np.zeros((*PHOTO.shape[:2], 3), np.uint8)
    where[8:] = 255
    pictures = [PHOTO, PAINTING, left, PAINTING, where, PAINTING, left]
    described = [description(values) for values in pictures]
    job = host.new_id()
    host.send(
        b"".join(values.tobytes() for values in pictures),
        op="stylize",
        id=job,
        content=described[0],
        style={**described[1], "mask": described[2]},
        add_styles=[{**described[3], "mask": {"file": str(tmp_path / "right.png")}}],
        regions=[{"mask": described[4], "style": {**described[5], "mask": described[6]}}],
        options=SMALL,
        result="rgbf",
    )
    result = host.last_event(job)
    assert result["event"] == "result", result
    own = stylize(
        PHOTO,
        [PAINTING, PAINTING],
        style_mask=[left, right],
        regions=[(where, PAINTING, left)],
        **SMALL,
    )
    assert np.abs(array_of(result) - own.picture.rgb).max() < 1e-5
    assert [set(style) for style in result["recipe"]["styles"]] == [
        {"name", "sha256", "mask", "weight"}
    ] * 2


@pytest.mark.parametrize("name", ["rgb8", "rgba8", "rgb16", "rgba16", "rgbf", "rgbaf"])
def test_every_format_both_ways(host: Host, name: str) -> None:
    # Opaque, since colours count by their opacity.
    photo = PHOTO | np.array([0, 0, 0, 255], np.uint8)
    values = (photo if "a" in name else photo[..., :3]).astype(np.float32) / 255
    if not name.endswith("f"):
        top = {"8": 255, "6": 65535}[name[-1]]
        values = np.rint(values * top).astype({"8": "<u1", "6": "<u2"}[name[-1]])
    assert len(values.tobytes()) == values.nbytes
    result = host.paint(values, PAINTING, result=name)[-1]
    assert (result["event"], result["format"]) == ("result", name)
    # The result does not depend on the format.
    plain = host.paint(PHOTO[..., :3].copy(), PAINTING, result="rgbf")[-1]
    painted = array_of(result)
    scale = 1 if name.endswith("f") else np.iinfo(painted.dtype).max
    assert np.abs(painted[..., :3] / scale - array_of(plain)).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"content": {"file": "/nowhere/cat.jpg"}}, "picture"),
        ({"content": {"file": __file__}}, "picture"),
        ({"content": {"file": "/nowhere/\udcff.jpg"}}, "picture"),
        ({"content": {"file": "/dev/zero"}}, "picture"),
        ({"style": {"file": "/"}}, "picture"),
        ({"options": {**SMALL, "size": 16, "scales": 9}}, "option"),
        ({"options": {**SMALL, "content_layers": "relu6_1"}}, "option"),
        ({"options": {**SMALL, "provider": "tensorrt"}}, "provider"),
        ({"options": {**SMALL, "weights": "/nowhere/vgg.pth"}}, "weights"),
        ({"options": {**SMALL, "size": 65536}}, "too-large"),
        ({"content": {"width": 8, "height": 8, "format": "rgb8"}, "nbytes": 192}, "picture"),
        ({"result": "jpeg"}, "malformed"),
        ({"op": "paint"}, "unknown-op"),
    ],
)  # fmt: skip
def test_errors_are_one_sentence_and_the_conversation_goes_on(
    host: Host, change: dict[str, Any], code: str
) -> None:
    id = host.new_id()
    request = {"content": {"file": CAT}, "style": {"file": NIGHT}, "options": SMALL, **change}
    payload = b"x" * request.pop("nbytes", 0) or None
    host.send(payload, **{"op": "stylize", "id": id, **request})
    error = host.last_event(id)
    assert (error["event"], error["code"]) == ("error", code)
    assert "\n" not in error["message"]
    assert error["message"][-1] in ".?"
    assert host.hello()["event"] == "hello"


def test_bytes_of_a_refused_message_are_forgotten(host: Host) -> None:
    trap = b'\n{"op": "quit", "id": 99}\n' * 1000
    host.send(trap, op="stylize", id="refused", options={"sise": 3}, content=7)
    assert host.wait_for("refused", "error")["code"] == "malformed"
    host.send(trap, op="cancel", id="unasked", job=1)
    assert host.wait_for("unasked", "ok")["running"] is False
    host.stream.send(memoryview(b"x" * 200_000 + b"\n" + b"[1]\n" + b'{"op": "hello"}\n'))
    for _ in range(3):
        error = host.receive()
        assert (error["event"], error["id"], error["code"]) == ("error", None, "malformed")
    assert host.paint(PHOTO, PAINTING)[-1]["event"] == "result"


def test_prepare_and_estimate(host: Host) -> None:
    assert host.request("prepare", options=SMALL)["event"] == "ready"
    options = {**SMALL, "iterations": 7, "size": 60}
    size = {"width": 600, "height": 400}
    for style in ({}, {"style": size}, {"style": {"file": NIGHT}}):
        estimate = host.request("estimate", content=size, options=options, **style)
        assert (estimate["event"], estimate["steps"]) == ("estimate", 7)
        assert (estimate["width"], estimate["height"]) == (60, 40)
        assert estimate["seconds"] > 0
        assert 0 < estimate["memory"] < estimate["available"]
        assert estimate["message"].endswith(".")
    more = {"regions": [{"style": size}, {}], "protect": {"file": NIGHT}, "add_styles": [size]}
    wide = {"content": size, "style": size, "options": {**options, "style_blend": [1, 1]}}
    plain, masked = host.request("estimate", **wide), host.request("estimate", **wide, **more)
    # Two style pictures and four masks, one of them that of the rest: 12 bytes a pixel.
    assert masked["memory"] - plain["memory"] >= (2 + 4) * 600 * 400 * 12
    assert (
        host.request("estimate", content={"file": "/nowhere"}, options=SMALL)["code"] == "picture"
    )
    large = {**SMALL, "size": 40_000}
    assert host.request("estimate", content=size, options=large)["code"] == "too-large"
    assert host.request("estimate", options=SMALL)["code"] == "malformed"
    assert host.request("prepare", options={"size": 3})["code"] == "option"


def test_cancel_and_stop_while_it_paints(host: Host) -> None:
    for op, last in (("cancel", "cancelled"), ("stop", "result")):
        job = host.begin(PHOTO, PAINTING, LONG, previews=0.001)
        host.wait_for(job, "preview")
        id = host.new_id()
        host.send(op=op, id=id, job=job)
        assert host.wait_for(id, "ok").items() >= {"job": job, "running": True}.items()
        ended = host.last_event(job)
        assert ended["event"] == last
        if last == "result":
            assert ended["stopped"] is True
            assert array_of(ended).shape == PHOTO.shape
        # The job has ended, and its id is free.
        assert host.request(op, job=job)["running"] is False
        host.send(PHOTO, op="stylize", id=job, style={"file": NIGHT}, options=SMALL,
                  content={"width": 48, "height": 32, "format": "rgba8"})  # fmt: skip
        assert host.last_event(job)["event"] == "result"


def test_jobs_wait_for_each_other_and_what_waits_can_be_cancelled(host: Host) -> None:
    first = host.begin(PHOTO, PAINTING, LONG, previews=0.001)
    host.wait_for(first, "preview")
    second, third = host.begin(PHOTO, PAINTING), host.begin(CAT, NIGHT)
    assert host.wait_for(second, "progress")["message"] == "Waiting for another picture"
    # The error of a second request with the id must not end the first job.
    host.send(op="prepare", id=second, options=SMALL)
    while (error := host.receive())["event"] != "error":
        pass
    assert (error["id"], error["code"]) == (None, "malformed")
    for op, job in (("stop", second), ("cancel", first)):
        id = host.new_id()
        host.send(op=op, id=id, job=job)
        assert host.wait_for(id, "ok")["running"] is True
        assert host.last_event(job)["event"] == "cancelled"
    assert host.last_event(third)["event"] == "result"


def test_too_many_jobs_are_refused(host: Host) -> None:
    jobs = [host.begin(PHOTO, PAINTING, LONG) for _ in range(40)]
    ended: dict[object, str] = {}
    hello = host.new_id()
    host.send(**hello_request(hello))
    while (event := host.receive())["id"] != hello:
        if event["event"] == "error":
            ended[event["id"]] = event["code"]
    assert {*ended.values()} == {"busy"}
    assert 10 < len(ended) < 39
    for job in set(jobs) - set(ended):
        host.send(op="cancel", id=f"cancel {job}", job=job)
    while len(ended) < 40:
        event = host.receive()
        if event["event"] in ("cancelled", "error", "result"):
            ended[event["id"]] = event["event"]


def test_a_host_that_does_not_read_gets_the_same_result(host: Host) -> None:
    options = {**SMALL, "size": 160, "iterations": 25}
    plain = host.paint(CAT, NIGHT, options)
    job = host.begin(CAT, NIGHT, options, previews=0.0001)
    time.sleep(2 * plain[-1]["seconds"])
    late = list(host.events_of(job))
    assert late[-1]["event"] == plain[-1]["event"] == "result"
    assert late[-1]["pixels"] == plain[-1]["pixels"]
    # Those that the pipe holds, and the last one.
    assert 1 <= len([event for event in late if event["event"] == "preview"]) < 10


def test_fifty_jobs_take_no_more_memory(worker: Worker, host: Host) -> None:
    memory = []
    for number in range(50):
        size = 32 + 4 * (number % 9)
        events = host.paint(PHOTO, PAINTING, {**SMALL, "size": size}, previews=0.001)
        assert events[-1]["event"] == "result", events[-1]
        memory.append(worker.memory / 1e6)
    assert max(memory[40:]) - max(memory[:10]) < 8, memory


def test_nothing_but_the_protocol_goes_to_the_output(tmp_path: Path) -> None:
    noisy = """
import os, sys, threading, time
def noise():
    while os.fstat(0).st_rdev != os.stat(os.devnull).st_rdev:
        time.sleep(0.001)
    while True:
        os.write(1, b"a library's print\\n")
        print("another's", flush=True)
        time.sleep(0.005)
threading.Thread(target=noise, daemon=True).start()
from nstrt.plugins.cli import main
main()
"""
    with standard_streams(main=(sys.executable, "-c", noisy)) as (host, _):
        log = Path(host.hello()["log"])
        for _ in range(20):
            assert host.request("cancel", job=1)["running"] is False
            time.sleep(0.01)
        assert host.request("estimate", content={"file": CAT + "x"})["code"] == "picture"
    assert "a library's print" in log.read_text()
    assert "another's" in log.read_text()
