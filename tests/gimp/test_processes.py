"""Each GIMP has one worker: warm between runs, ended with GIMP, replaced if it is killed."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest
from gimp import (
    CAT,
    NIGHT,
    QUICK,
    SOON,
    Gimp,
    Photo,
    Profile,
    is_sentence,
    processor_seconds,
    wait_for,
    wait_until_gone,
)

LONG = {"size": 512, "iterations": 500, "seed": 1}
"""Options with which a picture takes minutes."""


@pytest.fixture
def own(profile: Profile) -> Iterator[Photo]:
    """A photo in a GIMP that the test may kill."""
    with Gimp.console(profile) as gimp, Photo.loaded(gimp, CAT) as photo:
        yield photo


def only_worker(gimp: Gimp) -> psutil.Process:
    return wait_for(gimp.workers, "a worker")[0]


def wait_until_painting(gimp: Gimp) -> psutil.Process:
    """Wait until the worker has computed for some seconds, and return it."""
    worker = only_worker(gimp)
    # Its start takes some of these seconds.
    wait_for(lambda: sum(worker.cpu_times()[:2]) > 6, "a worker that paints")
    return worker


def test_the_worker_stays_warm_and_ends_with_gimp(own: Photo) -> None:
    """The second run uses the first one's worker, which ends within a second of GIMP."""
    answers = [own.stylize(style=NIGHT, **QUICK)]
    worker = only_worker(own.gimp)
    answers.append(own.stylize(style=NIGHT, **QUICK))
    assert [answer.status for answer in answers] == ["success"] * 2
    assert own.gimp.workers() == [worker]
    assert answers[1].seconds < answers[0].seconds
    # Freeing a job's memory may take a moment.
    wait_for(lambda: processor_seconds([worker], during=1.0) < 0.1, "a worker that idles")
    own.gimp.end()
    assert own.gimp.process.returncode == 0
    wait_until_gone([worker])


def test_gimp_is_killed_while_the_worker_idles(own: Photo) -> None:
    own.stylize(style=NIGHT, **QUICK)
    worker = only_worker(own.gimp)
    own.gimp.kill()
    wait_until_gone([worker])


def test_gimp_is_killed_while_the_worker_paints(own: Photo) -> None:
    own.gimp.ask("stylize", own.image, [own.layer], style=NIGHT, **LONG)
    worker = wait_until_painting(own.gimp)
    plugins = own.gimp.plugins()
    assert plugins
    own.gimp.kill()
    wait_until_gone([worker, *plugins])


def test_the_worker_is_killed_while_it_paints(own: Photo) -> None:
    """The user gets one sentence and no layer; the next run starts a new worker."""
    before = own.layers()
    run = own.gimp.ask("stylize", own.image, [own.layer], style=NIGHT, **LONG)
    worker = wait_until_painting(own.gimp)
    worker.kill()
    answer = run.result(timeout=10)
    assert answer["status"] == "execution-error"
    assert is_sentence(answer["message"]), answer
    assert own.layers() == before
    again = own.stylize(style=NIGHT, **QUICK)
    assert (again.status, again.message) == ("success", "")
    assert only_worker(own.gimp) != worker


def test_the_worker_is_killed_while_it_idles(own: Photo) -> None:
    """The next run succeeds."""
    own.stylize(style=NIGHT, **QUICK)
    worker = only_worker(own.gimp)
    worker.kill()
    wait_until_gone([worker])
    again = own.stylize(style=NIGHT, **QUICK)
    assert (again.status, again.message) == ("success", "")


def test_the_plug_in_is_killed_while_the_worker_paints(own: Photo) -> None:
    """The worker cancels the job, as after GIMP's own Cancel, and serves the next one."""
    before = own.layers()
    run = own.gimp.ask("stylize", own.image, [own.layer], style=NIGHT, **LONG)
    worker = wait_until_painting(own.gimp)
    for plugin in own.gimp.plugins():
        plugin.kill()
    answer = run.result(timeout=10)
    assert answer["status"] != "success"
    wait_for(lambda: processor_seconds([worker], during=0.2) < 0.05, "an idle worker", SOON)
    assert own.layers() == before
    again = own.stylize(style=NIGHT, **QUICK)
    assert (again.status, again.message) == ("success", "")
    assert own.gimp.workers() == [worker]


def test_two_gimps_have_two_workers(profile: Profile, own: Photo, console: Gimp) -> None:
    own.stylize(style=NIGHT, **QUICK)
    with Photo.loaded(console, CAT) as photo:
        photo.stylize(style=NIGHT, **QUICK)
        assert only_worker(console) != only_worker(own.gimp)
