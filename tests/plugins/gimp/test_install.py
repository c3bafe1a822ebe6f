"""Installing, checking and uninstalling the filter; a GIMP is only a folder here."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from nstrt.plugins.cli.report import report_lines, without_home
from nstrt.plugins.gimp import find_gimp as finding
from nstrt.plugins.gimp import install as installing
from nstrt.plugins.gimp import programs, settings
from nstrt.plugins.gimp import status as looking
from nstrt.plugins.gimp.find_gimp import explain_lack, find_gimp
from nstrt.plugins.gimp.folders import (
    FLATPAK,
    GimpFolder,
    default_folder,
    gimp_folders,
    mark_flatpak,
    named_folder,
)
from nstrt.plugins.gimp.handshake import DROPPED_VARIABLES, handshake
from nstrt.plugins.gimp.install import PluginPaths
from nstrt.plugins.gimp.programs import GimpProgram, find_programs, parse_version
from nstrt.plugins.gimp.status import PROCEDURE, registration

from support.command_line import nstrt

Capture = pytest.CaptureFixture[str]
FILTER = b"#!/usr/bin/env python3\n# the filter\n"
MODULE = b"# a module of the filter\n"
SOURCES = {"nstrt.py": FILTER, "nstrt_part.py": MODULE}
HOME = Path("/home/ada")

# A worker's answer to hello.
HELLO = '{"event": "hello", "id": 0, "protocol": 1, "nstrt": "9.9", "pid": 1, "log": "x"}'


def fake_worker(answer: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; sys.stdin.readline(); print({answer!r})"]


@pytest.fixture
def gimp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginPaths:
    """A GIMP's folder, and a plug-in with two files for the tests."""
    folder = tmp_path / "GIMP" / "3.0"
    folder.mkdir(parents=True)
    monkeypatch.setenv("GIMP3_DIRECTORY", str(folder))
    for module in (installing, looking):
        monkeypatch.setattr(module, "filter_sources", lambda: SOURCES)
    return PluginPaths(gimp=folder)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that answer at once, so that only some tests wait for a real one."""
    current = settings.current

    def with_fake_worker() -> settings.Settings:
        from dataclasses import replace

        return replace(current(), command=tuple(fake_worker(HELLO)))

    monkeypatch.setattr(settings, "current", with_fake_worker)


def change(place: PluginPaths, **values: object) -> None:
    content = json.loads(place.settings.read_bytes())
    place.settings.write_text(json.dumps({**content, **values}))


def faults(capsys: Capture) -> str:
    """The faults that ``status`` prints; it must exit with 1."""
    capsys.readouterr()
    assert nstrt("gimp", "status", "--json") == 1
    (folder,) = json.loads(capsys.readouterr().out)["folders"]
    assert not folder["fine"]
    return " ".join(folder["faults"])


# GIMP's folders -------------------------------------------------------------------------------


def listing(*paths: str) -> Callable[[Path], list[str]]:
    """A disk that has these folders."""
    every = {Path(path) for path in paths}
    return lambda folder: [path.name for path in every if path.parent == folder]


def found(system: str, *paths: str, **environment: str) -> dict[str, str]:
    folders = gimp_folders(system, HOME, environment, listing(*paths))
    return {str(folder.path): folder.owner for folder in folders}


def test_each_version_of_each_package_is_found_on_linux() -> None:
    base = "/home/ada/.config/GIMP"
    snap = "/home/ada/snap/gimp/current/.config/GIMP/3.0"
    box = "/home/ada/.var/app/org.gimp.GIMP/config/GIMP/3.2"
    disk = [f"{base}/3.10", f"{base}/3.2", f"{base}/2.10", f"{base}/3.0-old", snap, box]
    assert found("linux", *disk) == {
        f"{base}/3.2": "GIMP 3.2",
        f"{base}/3.10": "GIMP 3.10",
        box: "GIMP 3.2 (Flatpak)",
        snap: "GIMP 3.0 (Snap)",
    }
    assert list(found("linux", *disk))[:2] == [f"{base}/3.2", f"{base}/3.10"]
    assert found("linux") == {}


def test_xdg_config_home_counts_if_it_is_absolute() -> None:
    disk = ["/etc/ada/GIMP/3.0", "/home/ada/.config/GIMP/3.0"]
    assert list(found("linux", *disk, XDG_CONFIG_HOME="/etc/ada")) == disk[:1]
    assert list(found("linux", *disk, XDG_CONFIG_HOME="ada")) == disk[1:]
    assert list(found("linux", *disk, XDG_CONFIG_HOME="")) == disk[1:]


def test_windows_and_macos_have_one_place_each() -> None:
    roaming, own = "/profile/Roaming/GIMP/3.0", "/home/ada/AppData/Roaming/GIMP/3.0"
    library = "/home/ada/Library/Application Support/GIMP/3.0"
    disk = [roaming, own, library, "/home/ada/.config/GIMP/3.0"]
    assert list(found("win32", *disk, APPDATA="/profile/Roaming")) == [roaming]
    assert list(found("win32", *disk)) == [own]
    assert list(found("darwin", *disk)) == [library]


def test_gimp3_directory_counts_alone() -> None:
    disk = ["/home/ada/.config/GIMP/3.0", "/other/gimp", "/home/ada/mine"]
    for system in ("linux", "darwin", "win32"):
        assert list(found(system, *disk, GIMP3_DIRECTORY="/other/gimp")) == ["/other/gimp"]
        assert list(found(system, *disk, GIMP3_DIRECTORY="mine")) == ["/home/ada/mine"]
        assert found(system, *disk, GIMP3_DIRECTORY="/nowhere") == {}


def test_a_gimp_in_a_box_is_refused_with_the_reason() -> None:
    disk = listing("/home/ada/.config/GIMP/3.0", "/home/ada/snap/gimp/current/.config/GIMP/3.0")
    own, snap = gimp_folders("linux", HOME, {}, disk)
    assert own.obstacle == ""
    assert "Snap" in snap.obstacle
    # A Flatpak shares the folder of a GIMP outside it; a program tells that there is one.
    alone = mark_flatpak((own, snap), flatpak=True, program=False)
    assert [folder.obstacle for folder in alone] == [FLATPAK, snap.obstacle]
    assert mark_flatpak((own, snap), flatpak=True, program=True) == (own, snap)
    assert mark_flatpak((own, snap), flatpak=False, program=False) == (own, snap)


def test_a_gimp_that_never_ran_has_a_folder_to_come() -> None:
    assert default_folder("linux", HOME, {}, "3.0.4") == HOME / ".config/GIMP/3.0"
    assert default_folder("linux", HOME, {"XDG_CONFIG_HOME": "/c"}, "3.2.1") == Path("/c/GIMP/3.2")
    assert named_folder(Path("/x/GIMP/3.2")).owner == "GIMP 3.2"


def test_versions_are_read_from_what_programs_say() -> None:
    assert parse_version("GNU Image Manipulation Program version 3.0.4\n") == "3.0.4"
    assert parse_version("GNU Image Manipulation Program Version 2.10.34") == "2.10.34"
    assert parse_version("GIMP 3.2.0-RC1") == "3.2.0"
    assert parse_version("no idea") == ""
    assert GimpProgram(path=Path("g"), version="3.0.4").supported
    assert not GimpProgram(path=Path("g"), version="2.10.34").supported


@pytest.mark.skipif(sys.platform == "win32", reason="programs are scripts here")
def test_programs_are_asked_once_and_those_in_boxes_are_not(tmp_path: Path) -> None:
    for name, version in (("gimp-3.0", "3.0.4"), ("gimp-console-3.0", "3.0.4"), ("old", "2.10.8")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho $1 >> {tmp_path}/asked\necho GIMP version {version}\n")
        program.chmod(0o755)
    (tmp_path / "gimp").symlink_to("gimp-3.0")
    (tmp_path / "gimp-3").write_text("#!/bin/sh\nexit 3\n")
    here = {path.name: str(path) for path in tmp_path.iterdir()}

    assert find_programs("linux", {**here, "gimp": "/snap/bin/gimp"}.get)[0].version == "3.0.4"
    (tmp_path / "asked").unlink()
    (program,) = find_programs("linux", here.get)
    assert program == GimpProgram(path=tmp_path / "gimp", version="3.0.4")
    assert set((tmp_path / "asked").read_text().split()) == {"--version"}
    assert find_programs("linux", {"gimp": here["old"]}.get)[0].version == "2.10.8"
    assert find_programs("linux", {}.get) == ()
    # On Windows the program with windows waits for a key.
    assert not any(name.endswith("gimp") for name in programs.program_names("win32"))


def test_where_nothing_is_found_the_sentence_says_what_to_do() -> None:
    def lack(*versions: str, flatpak: bool = False, snap: bool = False, old: bool = False) -> str:
        here = [GimpProgram(path=Path("gimp"), version=version) for version in versions]
        return explain_lack(here, flatpak=flatpak, snap=snap, old_folder=old)

    assert lack().startswith("No GIMP 3 was found; if it is installed, start it once")
    assert lack("3.0.4", "2.10.34").startswith("GIMP 3.0.4 was never started")
    assert lack("2.10.34") == "Only GIMP 2.10.34 is here, and this filter needs GIMP 3."
    assert "needs GIMP 3" in lack(old=True)
    assert "Flatpak" in lack("2.10.34", flatpak=True)
    assert "Snap" in lack(snap=True)


@pytest.mark.skipif(sys.platform != "linux", reason="a GIMP for Linux")
def test_a_gimp_that_never_ran_makes_its_folder_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    folder = tmp_path / "config/GIMP/3.0"
    (tmp_path / "bin").mkdir()
    for name in ("gimp", "gimp-console"):
        program = tmp_path / "bin" / name
        program.write_text(
            "#!/bin/sh\ncase $1 in --version) echo version 3.0.4;; "
            f"*) test $(basename $0) = gimp-console && mkdir -p {folder};; esac\n"
        )
        program.chmod(0o755)
    monkeypatch.delenv("GIMP3_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(finding, "flatpak_paths", lambda home: ())

    assert find_gimp().lack.startswith("GIMP 3.0.4 was never started")
    found = find_gimp(start=True)
    assert found.usable == (GimpFolder(path=folder, owner="GIMP 3.0"),)
    assert found.lack == ""


# Installation ----------------------------------------------------------------------------------


def test_install_says_what_to_do_next(gimp: PluginPaths, capsys: Capture) -> None:
    """The worker is a real one, started as GIMP starts it."""
    assert nstrt("gimp", "install", "--no-export") == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert str(gimp.folder) in said
    assert "Restart GIMP. Then: open a photo, Filters > Artistic > Neural Style..." in said
    assert len(said.splitlines()) <= 4

    assert gimp.plugin.read_bytes() == FILTER
    assert (gimp.folder / "nstrt_part.py").read_bytes() == MODULE
    written = json.loads(gimp.settings.read_bytes())
    assert written["format"] == written["protocol"] == 1
    python, *rest = written["command"]
    assert python == os.path.abspath(sys.executable)
    assert rest == ["-I", "-m", "nstrt.plugins.cli", "worker"]
    assert written["environment"] == {"NSTRT_CACHE": os.environ["NSTRT_CACHE"]}
    assert written["log"] == str(Path(os.environ["NSTRT_CACHE"], "logs", "worker.log"))
    assert written["mend"].endswith("gimp install")
    if sys.platform != "win32":
        assert gimp.plugin.stat().st_mode & 0o777 == 0o755
        # GIMP starts the executable files of a plug-in's folder.
        assert not (gimp.folder / "nstrt_part.py").stat().st_mode & 0o111
    assert sorted(path.name for path in gimp.folder.iterdir()) == ["nstrt.json", *SOURCES]

    assert nstrt("gimp", "status") == 0
    assert "GIMP 3.0: the filter works" in capsys.readouterr().out


def test_installing_again_replaces_an_older_one(
    gimp: PluginPaths, quick: None, capsys: Capture
) -> None:
    assert nstrt("gimp", "install", "--no-export") == 0
    before = int(gimp.plugin.stat().st_mtime)
    gimp.plugin.write_bytes(FILTER + b"# older\n")
    os.utime(gimp.plugin, (before, before))
    (gimp.folder / "nstrt_part.py").unlink()
    (gimp.folder / "nstrt_older.py").write_bytes(b"# older\n")
    compiled = gimp.folder / "__pycache__"
    compiled.mkdir()
    for name in ("nstrt", "nstrt_older", "nstrt_part"):
        (compiled / f"{name}.cpython-313.pyc").write_bytes(b"")
    theirs = gimp.folder / "notes.py"
    theirs.write_text("mine")
    change(gimp, version="0.0.9")
    capsys.readouterr()
    assert nstrt("gimp", "status", "--json") == 0
    (folder,) = json.loads(capsys.readouterr().out)["folders"]
    assert folder["version"] == "0.0.9"
    assert any("nstrt 0.0.9, and this is nstrt" in note for note in folder["notes"])

    assert nstrt("gimp", "install", "--no-export") == 0
    assert gimp.plugin.read_bytes() == FILTER
    assert (gimp.folder / "nstrt_part.py").read_bytes() == MODULE
    assert sorted(path.name for path in gimp.folder.iterdir()) == [
        "notes.py",
        "nstrt.json",
        *SOURCES,
    ]
    # GIMP queries a file again only if its time in whole seconds changed.
    assert int(gimp.plugin.stat().st_mtime) > before


def test_a_folder_can_be_named(
    tmp_path: Path, quick: None, gimp: PluginPaths, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    other, old = tmp_path / "other 3", tmp_path / "2.10"
    other.mkdir()
    old.mkdir()
    assert nstrt("gimp", "install", "--no-export", "--folder", other) == 0
    assert (other / "plug-ins/nstrt/nstrt.py").is_file()
    assert not gimp.folder.exists()
    assert nstrt("gimp", "status", "--folder", other / "plug-ins") == 0
    assert nstrt("gimp", "uninstall", "--folder", other) == 0
    capsys.readouterr()
    for folder, words in ((tmp_path / "none", "There is no folder"), (old, "needs GIMP 3")):
        assert nstrt("gimp", "install", "--no-export", "--folder", folder) == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
    monkeypatch.setenv("GIMP3_DIRECTORY", str(tmp_path / "none"))
    assert nstrt("gimp", "install", "--no-export") == 2
    assert "GIMP3_DIRECTORY names" in capsys.readouterr().err


def test_a_gimp_in_a_box_is_left_alone(
    gimp: PluginPaths, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    boxed = GimpFolder(path=gimp.gimp, owner="GIMP 3.0", obstacle=FLATPAK)
    monkeypatch.setattr(finding, "gimp_folders", lambda *_: (boxed,))
    assert nstrt("gimp", "install", "--no-export") == 2
    said = capsys.readouterr().err
    assert "cannot be put into GIMP 3.0: a GIMP installed as a Flatpak" in said
    assert said.count("\n") == 1
    assert not gimp.folder.exists()
    assert "Flatpak" in faults(capsys)


def test_a_folder_that_cannot_be_written_is_named(gimp: PluginPaths, capsys: Capture) -> None:
    (gimp.gimp / "plug-ins").write_text("in the way")
    assert nstrt("gimp", "install", "--no-export") == 2
    said = capsys.readouterr().err
    assert f"{gimp.gimp / 'plug-ins'}" in said
    assert "cannot be written" in said


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
@pytest.mark.parametrize("whole_folder", [True, False])
def test_a_link_made_for_development_stays(
    gimp: PluginPaths, quick: None, tmp_path: Path, capsys: Capture, whole_folder: bool
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    source = work / "nstrt.py"
    source.write_bytes(b"being worked on\n")
    gimp.folder.parent.mkdir()
    if whole_folder:
        gimp.folder.symlink_to(work)
    else:
        gimp.folder.mkdir()
        gimp.plugin.symlink_to(source)
    assert nstrt("gimp", "install", "--no-export") == 0
    assert "a link" in capsys.readouterr().out
    assert source.read_bytes() == b"being worked on\n"
    assert gimp.linked
    assert nstrt("gimp", "status") == 0
    assert nstrt("gimp", "uninstall") == 0
    assert source.read_bytes() == b"being worked on\n"
    assert not os.path.lexists(gimp.folder)


def test_uninstall_takes_only_what_is_nstrts(
    gimp: PluginPaths, quick: None, capsys: Capture
) -> None:
    assert nstrt("gimp", "uninstall") == 0
    assert "was not installed" in capsys.readouterr().out
    assert nstrt("gimp", "install", "--no-export") == 0
    compiled = gimp.folder / "__pycache__"
    compiled.mkdir()
    (compiled / "nstrt.cpython-313.pyc").write_bytes(b"")
    (compiled / "nstrt_part.cpython-313.pyc").write_bytes(b"")
    # Left by a version that had this module.
    (gimp.folder / "nstrt_older.py").write_bytes(b"")
    theirs = gimp.folder / "notes.txt"
    theirs.write_text("mine")
    assert nstrt("gimp", "uninstall") == 0
    assert list(gimp.folder.iterdir()) == [theirs]
    theirs.unlink()
    assert nstrt("gimp", "install", "--no-export") == 0
    assert nstrt("gimp", "uninstall") == 0
    assert not gimp.folder.exists()
    assert (gimp.gimp / "plug-ins").is_dir()


# Faults ----------------------------------------------------------------------------------------


def test_status_says_why_gimp_would_not_load_it(
    gimp: PluginPaths, quick: None, capsys: Capture
) -> None:
    assert nstrt("gimp", "status") == 1
    assert "GIMP 3.0: the filter is not installed" in (said := capsys.readouterr().out)
    assert "nstrt gimp install" in said
    assert nstrt("gimp", "install", "--no-export") == 0

    if sys.platform != "win32":
        gimp.plugin.chmod(0o644)
        assert "not executable" in faults(capsys)
        gimp.plugin.chmod(0o755)
    gimp.plugin.unlink()
    assert "nstrt.py is missing" in faults(capsys)
    whole = gimp.settings.read_bytes()
    gimp.settings.write_bytes(whole.replace(b'"version": "', b'"version": "0.0.'))
    assert nstrt("gimp", "status") == 1
    assert "It is of nstrt 0.0." in capsys.readouterr().out
    gimp.settings.write_bytes(whole)
    gimp.plugin.write_bytes(FILTER + b"edited")
    gimp.plugin.chmod(0o755)
    assert nstrt("gimp", "status") == 0
    assert "nstrt.py was changed: it is not this nstrt's file" in capsys.readouterr().out
    module = gimp.folder / "nstrt_part.py"
    module.write_bytes(MODULE[:-5])
    assert nstrt("gimp", "status") == 0
    assert "nstrt_part.py was changed: it is not this nstrt's file" in capsys.readouterr().out
    module.unlink()
    assert "nstrt_part.py is missing" in faults(capsys)
    module.mkdir()
    assert "nstrt_part.py cannot be read" in faults(capsys)


def test_settings_that_are_of_no_use_are_a_fault(
    gimp: PluginPaths, quick: None, capsys: Capture
) -> None:
    assert nstrt("gimp", "install", "--no-export") == 0
    whole = gimp.settings.read_bytes()
    for content in (whole[: len(whole) // 2], b"[]", b"{}", b"\xff\xfe", b'{"format": 1}'):
        gimp.settings.write_bytes(content)
        assert "nstrt.json is damaged" in faults(capsys)
    gimp.settings.write_bytes(whole)
    change(gimp, format=2)
    assert "nstrt.json is of another form (2, not 1)" in faults(capsys)
    gimp.settings.unlink()
    assert "nstrt.json is missing" in faults(capsys)


def test_a_python_that_moved_is_a_fault(gimp: PluginPaths, quick: None, capsys: Capture) -> None:
    assert nstrt("gimp", "install", "--no-export") == 0
    change(gimp, command=["/gone/bin/python", "-m", "nstrt.plugins.cli", "worker"])
    assert "its Python is not there any more (/gone/bin/python)" in faults(capsys)


@pytest.mark.parametrize(
    ("worker", "fault"),
    [
        ([sys.executable, "-c", "import sys; sys.exit('No such thing.')"], "1: No such thing"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "within 1 seconds"),
        (fake_worker("Good day."), "not one of a worker"),
        (fake_worker("[1]"), "not one of a worker"),
        (fake_worker(HELLO.replace('"protocol": 1', '"protocol": 2')), "protocol 2, not 1"),
        (fake_worker('{"event": "error", "message": "No."}'), "it refused: No"),
        ([os.devnull], "cannot be started"),
    ],
)
def test_a_worker_that_does_not_answer_is_named(worker: list[str], fault: str) -> None:
    outcome = handshake(worker, {}, protocol=1, seconds=1)
    assert fault in outcome.fault
    assert outcome.version == ""


def test_a_worker_gets_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONHOME", "GI_TYPELIB_PATH", "NSTRT_CACHE"):
        monkeypatch.setenv(name, "/nowhere")
    kept = "[n for n in os.environ if n.startswith(('PYTHON', 'GI_', 'NSTRT'))]"
    code = f"import os, json; print(json.dumps(dict(event='error', message=str({kept}))))"
    outcome = handshake([sys.executable, "-c", code], {"NSTRT_OWN": "1"}, protocol=1)
    assert outcome.fault == "it refused: ['NSTRT_OWN']"


def test_install_says_when_the_worker_does_not_answer(
    gimp: PluginPaths, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from dataclasses import replace

    broken = replace(settings.current(), command=(sys.executable, "-c", "raise SystemExit('Ow.')"))
    monkeypatch.setattr(settings, "current", lambda: broken)
    assert nstrt("gimp", "install", "--no-export") == 2
    said = capsys.readouterr().err
    assert "does not answer: it ended with code 1: Ow" in said
    assert "worker.log" in said
    assert said.count("\n") == 1


def test_gimps_own_list_is_read(gimp: PluginPaths) -> None:
    gimp.folder.mkdir(parents=True)
    gimp.plugin.write_bytes(FILTER)
    os.utime(gimp.plugin, (1000, 1000))
    rc = gimp.gimp / "pluginrc"

    def said(*entries: str, written: int = 2000) -> tuple[bool, str]:
        rc.write_text("\n".join(("# GIMP pluginrc", *entries, "# end of pluginrc")))
        os.utime(rc, (written, written))
        return registration(gimp.gimp, gimp.plugin)

    loaded = (True, "GIMP has loaded it.")
    unseen = (True, "GIMP has not seen this file yet; restart GIMP.")
    assert "not listed any plug-in yet" in registration(gimp.gimp, gimp.plugin)[1]
    other = '(plug-in-def "${gimp_plug_in_dir}/plug-ins/warp/warp" 1000 (proc-def "warp" 1))'
    own = '(plug-in-def "${gimp_dir}/plug-ins/nstrt/nstrt.py" %d (proc-def "%s" 1))'
    assert said(own % (1000, PROCEDURE), other) == loaded
    assert said(own % (1000, "x"), other) == (False, f"GIMP has loaded it, without {PROCEDURE}.")
    assert said(own % (900, PROCEDURE), other) == unseen
    assert said(other, written=900) == unseen
    taken, why = said(other)
    assert not taken
    assert "could not run it" in why
    windows = '(plug-in-def "C:\\\\GIMP\\\\plug-ins\\\\nstrt\\\\nstrt.py" 1000 (proc-def "%s" 1))'
    assert said(windows % PROCEDURE) == loaded


# The command line ------------------------------------------------------------------------------


def test_what_people_type_after_gimp_is_answered(capsys: Capture) -> None:
    assert nstrt("gimp") == 0
    assert "install" in capsys.readouterr().out
    for name in ("install", "uninstall", "status"):
        assert nstrt("gimp", name, "--help") == 0
        assert "Examples:" in capsys.readouterr().out
    assert nstrt("gimp", "instal") == 2
    assert "No such command" in capsys.readouterr().err


def test_report_is_one_text_without_the_home_folder(
    gimp: PluginPaths, quick: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "cache"))
    log = tmp_path / "cache/logs/worker.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"line {n} of {tmp_path}\n" for n in range(100)))
    assert nstrt("gimp", "install", "--no-export") == 0
    capsys.readouterr()
    assert nstrt("info", "--report") == 0
    said = capsys.readouterr().out
    for words in ("nstrt: ", "python: ", "torch: ", "onnx: ", "onnxruntime", "would run"):
        assert words in said
    for words in ("GIMP 3.0: the filter works", "line 99 of ~", "line 40 of ~"):
        assert words in said
    assert "line 39 of" not in said
    assert str(tmp_path) not in said


def test_report_survives_parts_that_fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from nstrt.runtime.analysis import environment as info

    def broken(*_: object) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr(info, "describe", broken)
    monkeypatch.setattr(finding, "find_gimp", broken)
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path))
    said = "\n".join(report_lines())
    assert said.count("not to be had: RuntimeError: it broke") == 2
    assert "There is none: no worker has run yet." in said


def test_report_is_refused_with_what_it_cannot_be(capsys: Capture) -> None:
    for more in (["--json"], ["out.png"]):
        assert nstrt("info", "--report", *more) == 2
        said = capsys.readouterr().err
        assert "--report is a text of its own" in said
        assert said.count("\n") == 1


def test_the_home_folder_is_hidden_however_it_is_written() -> None:
    assert without_home("/home/ada/x and /home/ada", ["/home/ada"]) == "~/x and ~"
    assert without_home(r"C:\Users\Ada\x, C:\\Users\\Ada\\y", [r"C:\Users\Ada"]) == r"~\x, ~\\y"
    assert without_home("/data/home/ada/x", ["/home/ada", "/data/home/ada"]) == "~/x"
    assert without_home("/x", ["/"]) == "/x"


def test_the_package_carries_the_filter() -> None:
    sources = installing.filter_sources()
    assert sources["nstrt.py"].startswith(b"#!")
    modules = {name.removesuffix(".py") for name in sources} - {"nstrt"}
    imported = {
        name
        for source in sources.values()
        for name in re.findall(rb"^from (nstrt\w*)", source, re.M)
    }
    assert {name.decode() for name in imported} == modules
    folder = files("nstrt.plugins.gimp").joinpath("filter")
    for name in sources:
        with as_file(folder.joinpath(name)) as path:
            assert os.access(path, os.X_OK) == (name == "nstrt.py" or sys.platform == "win32")


def test_report_shows_the_log_that_the_filter_writes(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gimp: PluginPaths
) -> None:
    """The filter has another cache, whose log has just been rotated."""
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "other"))
    assert nstrt("gimp", "install", "--no-export") == 0
    logs = tmp_path / "other" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "worker.log.1").write_text("what was before\n")
    (logs / "worker.log").write_text("what came last\n")
    monkeypatch.setenv("NSTRT_CACHE", str(tmp_path / "mine"))
    capsys.readouterr()
    assert nstrt("info", "--report") == 0
    said = capsys.readouterr().out
    assert "what was before" in said
    assert "what came last" in said


def test_the_handshake_has_the_environment_that_the_filter_gives_the_worker() -> None:
    """The filter cannot import nstrt, so it has a list of its own."""
    text = files("nstrt.plugins.gimp").joinpath("filter/nstrt_process.py").read_text()
    (listed,) = re.findall(r"^DROPPED_VARIABLES = (\(.*?\))", text, re.MULTILINE | re.DOTALL)
    assert ast.literal_eval(listed) == DROPPED_VARIABLES
