"""A real GIMP 3 to test with, in a profile of its own, with a probe inside that answers requests.

A :class:`Gimp` is a running program. Its batch interpreter executes ``inside.py``, which answers
requests that are written as files, so ``gimp.do("layers", image)`` calls the function ``layers``
there. A :class:`Screen` is a GIMP with windows on an X server that nobody sees, with keys and a
mouse.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
from numpy.typing import NDArray
from prepare import PATH, Place

REPOSITORY = Path(__file__).parents[2]
INSIDE = Path(__file__).with_name("inside.py")
PICTURES = REPOSITORY / "out" / "gimp"
"""Where screenshots go."""

CAT = REPOSITORY / "examples" / "cat.jpg"
NIGHT = REPOSITORY / "examples" / "night.jpg"

QUICK = {"size": 64, "iterations": 5, "seed": 1}
"""Options with which a picture takes about a second."""

PLUGINS = ("python-eval", "file-png", "file-jpeg")
"""GIMP's own plug-ins that the tests need; GIMP starts slowly with all of them."""

PATIENCE = 60.0
"""Seconds to wait on a slow, busy machine before a test fails."""

MAIN = "– GIMP$"
"""Pattern of the main window's title."""

_T = TypeVar("_T")

_ENTER = """\
root=$1 venv=$2 python=$3; shift 3
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root${1%/*}"; touch "$root$1"; fi
  mount --bind "$1" "$root$1"
  shift
done
shift
mount -t tmpfs none "$root$venv/bin"
for name in python python3; do ln -s "$python" "$root$venv/bin/$name"; done
exec /usr/sbin/chroot "$root" "$@"
"""
"""Enters GIMP's root folder. The mounts are private to this process and end with it.

The environment's ``python`` may be a link through the system's ``python3``, which is another one
in there. So it becomes a link to the interpreter itself."""


_SESSION = """\
(session-info "toplevel"
    (factory-entry "gimp-single-image-window")
    (position 0 0)
    (size 1200 700)
    (open-on-exit)
    (aux-info
        (left-docks-width "188")
        (right-docks-width "330")
        (maximized "yes"))
    (gimp-toolbox
        (side left)
        (book
            (dockable "gimp-tool-options")))
    (gimp-dock
        (side right)
        (book
            (dockable "gimp-undo-history" (tab-style icon-name)))
        (book
            (position 230)
            (dockable "gimp-layer-list" (tab-style icon-name) (preview-size 32))
            (dockable "gimp-channel-list" (tab-style icon-name)))))
(single-window-mode yes)
"""
"""One window as large as the screen, which shows the undo history and the layers."""


class GimpError(AssertionError):
    """GIMP, or the probe in it, did not do what it was asked to."""


def wait_for(
    condition: Callable[[], _T | None], what: str, timeout: float = PATIENCE, every: float = 0.05
) -> _T:
    """Call ``condition`` until its result is true, and return that."""
    end = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise GimpError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(every)


@dataclass(frozen=True)
class Profile:
    """A GIMP's folders and settings, all of them under one temporary folder."""

    place: Place
    folder: Path
    cache: Path
    """nstrt's cache: models and logs."""

    @classmethod
    @contextmanager
    def temporary(
        cls, place: Place, cache: Path, plugins: Sequence[str] = PLUGINS
    ) -> Iterator[Profile]:
        """A new profile; at its end its processes are killed and its folder is removed."""
        # Socket paths must be short: pytest's own folders are too deep.
        folder = Path(tempfile.mkdtemp(prefix="nstrt-gimp-"))
        profile = cls(place, folder, cache)
        try:
            profile._write(plugins)
            yield profile
        finally:
            for process in profile.processes():
                with suppress(psutil.Error):
                    process.kill()
            wait_for(lambda: not profile.processes(), "the end of killed processes")
            shutil.rmtree(folder)
            if place.root:
                with suppress(OSError):  # Where it was mounted.
                    (place.root / folder.relative_to("/")).rmdir()

    @property
    def gimp_folder(self) -> Path:
        """The value of ``GIMP3_DIRECTORY``."""
        return self.folder / "gimp"

    @property
    def environment(self) -> dict[str, str]:
        folders = {
            "HOME": self.folder / "home",
            "GIMP3_DIRECTORY": self.gimp_folder,
            "TMPDIR": self.folder / "tmp",
            "XDG_CONFIG_HOME": self.folder / "config",
            "XDG_CACHE_HOME": self.folder / "cache",
            "XDG_DATA_HOME": self.folder / "data",
            "XDG_RUNTIME_DIR": self.folder / "run",
        }
        # There is no session bus: no accessibility, no stored desktop settings.
        plain = {"PATH": PATH, "LC_ALL": "C.UTF-8", "NO_AT_BRIDGE": "1"}
        plain["GSETTINGS_BACKEND"] = "memory"
        return plain | {name: str(folder) for name, folder in folders.items()}

    def command(self, *command: str) -> list[str]:
        """The command line that runs a command in GIMP's system."""
        if not self.place.root:
            return list(command)
        python = os.path.realpath(sys.executable)
        base = Path(sys.base_prefix)
        own = [Path(python), Path(sysconfig.get_path("stdlib"))] if base == Path("/usr") else [base]
        binds = (REPOSITORY, Path(sys.prefix), *own, self.cache, self.folder)
        return [
            *("unshare", "-m", "--propagation", "private"),
            *("sh", "-ec", _ENTER, "enter", str(self.place.root), sys.prefix, python),
            *map(str, binds),
            "--",
            *command,
        ]

    def run(self, *command: str, display: str = "", timeout: float = PATIENCE) -> str:
        """Run a command in GIMP's system to its end; returns its output."""
        result = subprocess.run(
            self.command(*command),
            env=self.environment | ({"DISPLAY": display} if display else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if result.returncode:
            raise GimpError(f"{' '.join(command)}: {result.returncode}\n{result.stdout}")
        return result.stdout

    def start(self, *command: str, log: Path, display: str = "") -> subprocess.Popen[bytes]:
        """Start a command in GIMP's system; returns the command's own process."""
        with log.open("ab") as out:
            return subprocess.Popen(
                self.command(*command),
                env=self.environment | ({"DISPLAY": display} if display else {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def processes(self) -> list[psutil.Process]:
        """All processes that were started in this profile."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                words = [*process.cmdline(), *process.environ().values()]
                if process.status() != psutil.STATUS_ZOMBIE and any(
                    str(self.folder) in word for word in words
                ):
                    found.append(process)
        return [process for process in found if process.pid != os.getpid()]

    def _version(self) -> str:
        found = re.search(r"\d+\.\d+\.\d+", self.run(self.place.console, "--version"))
        assert found
        return found[0]

    def _write(self, plugins: Sequence[str]) -> None:
        for name in ("home", "gimp/plug-ins", "system", "tmp", "config", "cache", "data", "run"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "run").chmod(0o700)
        for name in plugins:
            (self.folder / "system" / name).symlink_to(self.place.system_plugins / name)
        settings = (
            f'(config-version "{self._version()}")',  # else it welcomes the new user
            "(show-welcome-dialog no)",
            f'(plug-in-path "{self.gimp_folder}/plug-ins:{self.folder}/system")',
            "(color-profile-policy keep)",  # else it asks
            "(check-updates no)",
            "(save-session-info no)",
            "(confirm-on-close no)",
            "(num-processors 2)",
        )
        (self.gimp_folder / "gimprc").write_text("\n".join(settings) + "\n")
        (self.gimp_folder / "sessionrc").write_text(_SESSION)


@dataclass
class Asked:
    """A request without an answer yet."""

    gimp: Gimp
    what: str
    answer_file: Path

    def done(self) -> bool:
        return self.answer_file.exists()

    def result(self, timeout: float = PATIENCE) -> Any:
        """Wait for the return value of the function inside GIMP."""

        def answered() -> bool:
            if not self.done() and self.gimp.process.poll() is not None:
                raise GimpError(f"GIMP ended during {self.what}\n{self.gimp.output()}")
            return self.done()

        wait_for(answered, f"GIMP's answer to {self.what}", timeout, every=0.02)
        answer = json.loads(self.answer_file.read_text())
        if "error" in answer:
            raise GimpError(f"{self.what}: {answer['error']}")
        return answer["value"]


@dataclass
class Gimp:
    """A running GIMP that answers requests."""

    profile: Profile
    process: subprocess.Popen[bytes]
    log: Path
    questions: Path
    display: str = ""
    _asked: int = field(default=0, init=False)

    @classmethod
    @contextmanager
    def console(cls, profile: Profile) -> Iterator[Gimp]:
        """GIMP without windows, with the probe."""
        options = ("-n", "-i", "-d", "-f", "-s", "-c", "--stack-trace-mode=never", "--quit")
        gimp = cls._started(profile, profile.place.console, *options)
        try:
            yield gimp
        finally:
            gimp.end()

    @classmethod
    def _started(cls, profile: Profile, command: str, *options: str, display: str = "") -> Gimp:
        questions = Path(tempfile.mkdtemp(prefix="ask-", dir=profile.folder))
        batch = f"exec(open({str(INSIDE)!r}).read()); serve({str(questions)!r})"
        log = questions / "gimp.log"
        process = profile.start(
            *(command, *options, "--batch-interpreter=python-fu-eval", "-b", batch),
            log=log,
            display=display,
        )
        return cls(profile, process, log, questions, display)

    def ask(self, function: str, /, *args: object, **kwargs: object) -> Asked:
        """Call a function of ``inside.py`` without waiting for its end."""
        file = self.questions / f"{self._asked:06}.ask"
        self._asked += 1
        request = {"function": function, "args": args, "kwargs": kwargs}
        part = file.with_suffix(".part")
        part.write_text(json.dumps(request, default=str))
        part.rename(file)
        return Asked(self, function, file.with_suffix(".answer"))

    def do(
        self, function: str, /, *args: object, timeout: float = PATIENCE, **kwargs: object
    ) -> Any:
        """Call a function of ``inside.py`` and wait for its return value."""
        return self.ask(function, *args, **kwargs).result(timeout)

    def pixels(self, item: int, *, mask: bool = False) -> NDArray[np.float32]:
        """An item's pixels as sRGB encoded floats: ``(height, width, 4)``, for a mask 1 channel."""
        file = self.questions / "pixels.raw"
        width, height = self.do("dump", item, file, "Y float" if mask else "R'G'B'A float")
        pixels = np.fromfile(file, np.float32).reshape(height, width, -1)
        file.unlink()
        return pixels

    def output(self) -> str:
        """Output of GIMP and its plug-ins so far."""
        return self.log.read_text(errors="replace")

    def alive(self) -> bool:
        """True if GIMP runs and its probe answers."""
        return self.process.poll() is None and bool(self.do("pid"))

    def plugins(self) -> list[psutil.Process]:
        """The processes that run the plug-in under test."""
        return [process for process in self._children() if _is_filter(process)]

    def workers(self) -> list[psutil.Process]:
        """The workers that were started for this GIMP."""
        own = ("--host-pid", str(self.process.pid))
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = process.cmdline()
                if "worker" in words and own in pairwise(words):
                    found.append(process)
        return found

    def end(self) -> None:
        """Ask GIMP to quit, and kill it if it does not."""
        if self.process.poll() is None:
            self.ask("end")
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.1 if self.display else 20)
        self.kill()

    def kill(self) -> None:
        """``kill -9``, GIMP alone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def _children(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return list(psutil.Process(self.process.pid).children(recursive=True))
        return []


def _is_filter(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any(word.endswith("/nstrt/nstrt.py") for word in process.cmdline())
    return False


SOON = 10.0
"""Limit in seconds for what takes one second on an idle machine; see benchmarks/filter.py."""


def wait_until_gone(processes: Sequence[psutil.Process], timeout: float = SOON) -> None:
    """Wait until none of the processes runs any more."""

    def running() -> list[int]:
        found = []
        for process in processes:
            with suppress(psutil.Error):
                # A zombie stays if the first process of the system never waits for it.
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        return found

    wait_for(lambda: not running(), "the end of processes", timeout, every=0.02)


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean absolute difference of two pictures."""
    return float(np.abs(one - other).mean())


def processor_seconds(processes: Sequence[psutil.Process], during: float) -> float:
    """Processor seconds that the processes use ``during`` so many seconds."""

    def used() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes)

    before = used()
    time.sleep(during)
    return used() - before


def is_sentence(text: str) -> bool:
    """True if a text is one sentence for a user, without a trace or an error class."""
    return (
        bool(re.fullmatch(r"[^\n]+\.", text))
        and (text[0].isupper() or text[0] in "/'\"“‘")
        and not re.search(r"Traceback|Errno|0x[0-9a-f]{6}|[A-Za-z]+Error\b", text)
    )


@dataclass
class Photo:
    """An open image, and the layer to be painted."""

    gimp: Gimp
    image: int
    layer: int

    @classmethod
    @contextmanager
    def loaded(cls, gimp: Gimp, path: Path) -> Iterator[Photo]:
        """Open a photo from a file until the end, in front if there is a screen."""
        image = gimp.do("load", path)
        if gimp.display:
            gimp.do("show", image)
        try:
            yield cls(gimp, image, gimp.do("layers", image)[0]["id"])
        finally:
            if gimp.process.poll() is None:
                gimp.do("close", image)

    def layers(self) -> list[dict[str, Any]]:
        """Its layers, from top to bottom."""
        return list(self.gimp.do("layers", self.image))

    def names(self) -> list[str]:
        return [layer["name"] for layer in self.layers()]

    def stylize(self, *drawables: int, **options: Any) -> Answer:
        """Run the filter without windows, on the photo's layer unless other items are given."""
        drawables = drawables or (self.layer,)
        return Answer(**self.gimp.do("stylize", self.image, drawables, **options))

    def above(self, item: int) -> dict[str, Any]:
        """The layer right above an item, in the same group."""
        layers = self.layers()
        item_is = next(layer for layer in layers if layer["id"] == item)
        where = {"parent": item_is["parent"], "position": item_is["position"] - 1}
        return next(layer for layer in layers if where.items() <= layer.items())

    def selection(self) -> NDArray[np.float32]:
        """The selection's value at each pixel of the image, 0 to 1."""
        return self.gimp.pixels(self.gimp.do("selection", self.image), mask=True)[..., 0]


@dataclass(frozen=True)
class Answer:
    """Outcome of a run of the filter."""

    status: str
    message: str
    seconds: float


@dataclass
class Screen(Gimp):
    """A GIMP with windows."""

    @classmethod
    @contextmanager
    def opened(cls, profile: Profile, *pictures: Path, size: str = "1280x800") -> Iterator[Screen]:
        """Start an X server, a window manager, and GIMP with pictures open.

        GIMP prints the messages that it would show in windows.
        """
        with _display(profile, size) as display:
            screen = cls._started(
                profile,
                profile.place.gimp,
                *("-n", "-s", "-c", "--stack-trace-mode=never"),
                *map(str, pictures),
                display=display,
            )
            assert isinstance(screen, Screen)
            try:
                screen.do("pid")
                screen.focus(screen.window(MAIN))
                screen.rest_mouse()
                yield screen
            finally:
                screen.end()

    def xdotool(self, *words: str) -> str:
        return self.profile.run("xdotool", *words, display=self.display).strip()

    def windows(self, title: str) -> list[str]:
        """Visible windows whose title contains the regular expression ``title``."""
        try:
            return self.xdotool("search", "--onlyvisible", "--name", title).split()
        except GimpError:
            return []

    def window(self, title: str, timeout: float = PATIENCE) -> str:
        """Wait for a window."""
        return wait_for(
            lambda: self.windows(title), f"a window called {title!r}", timeout, every=0.1
        )[-1]

    def gone(self, title: str, timeout: float = PATIENCE) -> None:
        """Wait until no window is called so."""
        wait_for(
            lambda: not self.windows(title), f"the end of windows {title!r}", timeout, every=0.1
        )

    def focus(self, window: str) -> None:
        self.xdotool("windowactivate", "--sync", window)

    def keys(self, *keys: str, window: str | None = None) -> None:
        """Press keys, one after the other, in the window that has the focus or in ``window``."""
        if window:
            self.focus(window)
        self.xdotool("key", "--delay", "150", *keys)

    def type(self, text: str) -> None:
        self.xdotool("type", "--delay", "20", text)

    def click(self, window: str, x: int, y: int) -> None:
        """Click at a place in a window."""
        self.xdotool("mousemove", "--window", window, str(x), str(y), "click", "1")

    def place_of(self, window: str) -> tuple[int, int, int, int]:
        """A window's left, top, right and bottom edge on the screen."""
        words = self.xdotool("getwindowgeometry", "--shell", window).splitlines()
        numbers = {name: int(value) for name, value in (word.split("=") for word in words)}
        left, top = numbers["X"], numbers["Y"]
        return left, top, left + numbers["WIDTH"], top + numbers["HEIGHT"]

    def rest_mouse(self) -> None:
        """Move the mouse off all widgets."""
        self.xdotool("mousemove", "640", "799")

    def screenshot(self, name: str, window: str = "root") -> Path:
        """Save what is on the screen, or one window, as ``NAME.png``."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        file = PICTURES / f"{name}.png"
        self.profile.run("import", "-window", window, f"png:{file}", display=self.display)
        return file


@contextmanager
def _display(profile: Profile, size: str) -> Iterator[str]:
    number = profile.folder / "display"
    number.unlink(missing_ok=True)
    server = profile.start(
        *("sh", "-c", f'exec Xvfb -displayfd 3 -screen 0 {size}x24 -nolisten tcp 3>"{number}"'),
        log=profile.folder / "xvfb.log",
    )
    processes = [server]
    try:
        display = ":" + wait_for(
            lambda: number.read_text().strip() if number.exists() else "", "the X server"
        )
        processes.append(
            profile.start("openbox", log=profile.folder / "openbox.log", display=display)
        )
        yield display
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def batch(profile: Profile, script: str) -> Any:
    """Run a script in a GIMP without windows, to its end.

    The script has the functions of ``inside.py`` and sets ``result``.
    """
    file, answer = profile.folder / "batch.py", profile.folder / "batch.answer"
    answer.unlink(missing_ok=True)
    file.write_text(
        f"exec(open({str(INSIDE)!r}).read())\n{script}\n"
        f"write_whole({str(answer)!r}, json.dumps(result))\n"
    )
    output = profile.run(
        profile.place.console,
        *("-n", "-i", "-d", "-f", "-s", "-c", "--stack-trace-mode=never", "--quit"),
        *("--batch-interpreter=python-fu-eval", "-b", f"exec(open({str(file)!r}).read())"),
    )
    if not answer.exists():
        raise GimpError(output)
    return json.loads(answer.read_text())
