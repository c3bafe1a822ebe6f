"""The job runner: checkpoints, existing results, faults, and what jobs share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nstrt.runtime import (
    Batch,
    JobDiffers,
    JobDone,
    JobFailed,
    JobProgress,
    JobSkipped,
    JobStarted,
    PictureWriteError,
    Result,
    StyleTransfer,
    StylizeOptions,
    jobs_from,
    read_recipe,
    style_transfer,
)
from nstrt.runtime.batch import job_runner
from nstrt.runtime.engines import factory

from support import CAT, EMBER, NIGHT
from support.batches import OPTIONS, last_events
from support.photo_data import exif_data, photo_image


def test_a_job_resumes_from_its_checkpoint_only_with_equal_options(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style_transfer, "SECONDS", 0)
    options = {**OPTIONS, "iterations": 6}
    jobs = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **options)
    with monkeypatch.context() as patch:

        def fail(*_: Any, **__: Any) -> None:
            raise PictureWriteError("The disk is full.")

        patch.setattr(Result, "save", fail)
        (failed,) = last_events(jobs)
        assert isinstance(failed, JobFailed)
    checkpoint = tmp_path / "c.png.checkpoint"
    state = checkpoint.read_bytes()

    lines: list[str] = []
    events = [item.event for item in Batch(jobs, notify=lines.append)]
    # No step is taken a second time.
    assert [type(event) for event in events] == [JobStarted, JobDone]
    assert not checkpoint.exists()
    assert not [line for line in lines if "beginning" in line]
    single = StyleTransfer(StylizeOptions.of(**options)).stylize(photos / "c.png", NIGHT)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "c.png")), single.to_array(np.uint8))

    # A checkpoint of other options is not used.
    (tmp_path / "c.png").unlink()
    checkpoint.write_bytes(state)
    other = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **options, strength=0.9)
    events = [item.event for item in Batch(other, notify=lines.append)]
    assert next(event for event in events if isinstance(event, JobProgress)).fraction < 0.3
    assert isinstance(events[-1], JobDone)
    assert [line for line in lines if "strength" in line and "beginning" in line]
    assert not checkpoint.exists()


def test_progress_has_the_fields_of_the_run(photos: Path, tmp_path: Path) -> None:
    jobs = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **OPTIONS)
    first, last = (item.event for item in Batch(jobs) if isinstance(item.event, JobProgress))
    assert [first.step, last.step] == [1, 2]
    assert (last.width, last.height) == (48, 32)
    assert first.fraction == 0.5
    assert last.fraction == 1
    assert 0 <= last.painted <= 1
    assert first.seconds_left is not None
    assert last.terms is not None


def test_existing_results_are_skipped_or_named_with_their_differences(
    photos: Path, tmp_path: Path
) -> None:
    (photos / "b.jpg").unlink()

    def run(style: Path = NIGHT, force: bool = False, **changes: Any) -> list[Any]:
        jobs = jobs_from([photos], style=style, out_dir=tmp_path, **{**OPTIONS, **changes})
        return last_events(jobs, force=force)

    assert [type(event) for event in run()] == [JobDone, JobDone]
    before = (tmp_path / "a.jpg").read_bytes()
    # Threads change no picture.
    assert [type(event) for event in run(threads=1)] == [JobSkipped, JobSkipped]

    def check_refused(reason: str, **changes: Any) -> None:
        for event in run(**changes):
            assert isinstance(event, JobDiffers)
            assert event.reason == reason

    check_refused("the painting was another", style=EMBER)
    check_refused("the painting's mask was another", style_mask=NIGHT)
    check_refused("style-margin was keep and is crop", style_margin="crop")
    check_refused("strength was 0.5 and is 0.7", strength=0.7)
    check_refused("iterations was 2 and is the preset's", iterations=())
    # A preset stands for the options that nobody set.
    check_refused("preset was balanced and is fast", preset="fast")
    check_refused(
        "preset was balanced and is fast; tolerance was 0.002 and is 0.01",
        preset="fast",
        tolerance=0.01,
    )
    check_refused("what it starts from was another; init was content and is cat.jpg", init=str(CAT))
    assert (tmp_path / "a.jpg").read_bytes() == before

    with Image.open(photos / "a.jpg") as photo:
        turned = photo.rotate(180)
    turned.save(photos / "a.jpg")
    first, second = run()
    assert isinstance(first, JobDiffers)
    assert first.reason == "the photo was another"
    assert isinstance(second, JobSkipped)
    assert [type(event) for event in run(force=True, strength=0.7)] == [JobDone, JobDone]
    recipe = read_recipe(tmp_path / "a.jpg")
    assert recipe
    assert recipe["options"]["strength"] == 0.7


def test_a_result_with_a_protected_part_counts_as_different(photos: Path, tmp_path: Path) -> None:
    photo = photos / "c.png"
    mask = np.zeros((64, 96, 3), np.uint8)
    mask[:20] = 255
    run = StyleTransfer(StylizeOptions.of(**OPTIONS)).run(photo, NIGHT, protect=mask)
    run.result().save(tmp_path / "c.png")
    (differs,) = last_events(jobs_from([photo], style=NIGHT, out_dir=tmp_path, **OPTIONS))
    assert isinstance(differs, JobDiffers)
    assert differs.reason == "it had a protected part"


def test_stopped_results_and_files_without_recipe_count_as_different(
    photos: Path, tmp_path: Path
) -> None:
    options = {**OPTIONS, "iterations": 50, "tolerance": 0.0}
    run = StyleTransfer(StylizeOptions.of(**options)).run(photos / "a.jpg", NIGHT)
    for event in run:
        if event.step == 2:
            run.stop()
    run.result().save(tmp_path / "a.jpg")
    shutil.copy(photos / "c.png", tmp_path)
    (photos / "b.jpg").unlink()
    first, second = last_events(jobs_from([photos], style=NIGHT, out_dir=tmp_path, **options))
    assert isinstance(first, JobDiffers)
    assert "stopped after 2 steps" in first.reason
    assert isinstance(second, JobDiffers)
    assert "does not say how it was made" in second.reason


def test_a_result_that_another_batch_saves_meanwhile_is_kept(photos: Path, tmp_path: Path) -> None:
    jobs = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **OPTIONS)
    for item in Batch(jobs):
        if isinstance(item.event, JobStarted):
            assert [type(event) for event in last_events(jobs)] == [JobDone]
            saved = (tmp_path / "c.png").read_bytes()
    assert isinstance(item.event, JobSkipped)
    assert (tmp_path / "c.png").read_bytes() == saved
    assert not list(tmp_path.glob("*.checkpoint"))


def test_an_internal_fault_fails_only_its_job(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable = job_runner.check_writable

    def faulty(path: Path, **settings: bool) -> None:
        if path.name == "a.jpg":
            raise ZeroDivisionError("by zero")
        check_writable(path, **settings)

    monkeypatch.setattr(job_runner, "check_writable", faulty)
    first, _, third = last_events(jobs_from([photos], style=NIGHT, out_dir=tmp_path, **OPTIONS))
    assert isinstance(first, JobFailed)
    assert first.code == "internal"
    assert "ZeroDivisionError" in first.reason
    assert "faulty" in first.trace
    assert isinstance(third, JobDone)


def test_jobs_share_networks_and_decoded_paintings(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    factories = []
    init = factory.EngineFactory.__init__

    def counting_init(self: Any, *arguments: Any, **settings: Any) -> None:
        factories.append(self)
        init(self, *arguments, **settings)

    monkeypatch.setattr(factory.EngineFactory, "__init__", counting_init)
    read: list[str] = []
    read_picture = job_runner.read_picture

    def recording_read(path: Path) -> Any:
        read.append(path.name)
        return read_picture(path)

    monkeypatch.setattr(job_runner, "read_picture", recording_read)
    jobs = jobs_from([photos], style=NIGHT, out_dir=tmp_path, **OPTIONS)
    # Other options use the same networks.
    other = jobs_from([photos / "c.png"], style=NIGHT, out_dir=tmp_path, **OPTIONS, strength=0.9)
    assert [type(event) for event in last_events([jobs[0], *other])] == [JobDone, JobDone]
    assert len(factories) == 1
    assert sorted(read) == ["a.jpg", "c.png", "night.jpg"]


def test_results_with_and_without_the_photos_data_differ(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo_image((96, 64)).save(photo, exif=exif_data())

    def run(strip: bool, **settings: Any) -> Any:
        jobs = jobs_from(
            [photo], style=NIGHT, out_dir=tmp_path / "out", strip_metadata=strip, **OPTIONS
        )
        return last_events(jobs, **settings)[0]

    result = tmp_path / "out" / "photo.jpg"
    result.parent.mkdir()
    assert isinstance(run(strip=False), JobDone)
    assert b"Maker" in result.read_bytes()
    assert isinstance(run(strip=False), JobSkipped)
    assert run(strip=True) == JobDiffers(reason="it keeps the photo's own data")
    assert isinstance(run(strip=True, force=True), JobDone)
    assert b"Maker" not in result.read_bytes()
    assert isinstance(run(strip=True), JobSkipped)
    assert run(strip=False) == JobDiffers(reason="it lacks the photo's own data")
