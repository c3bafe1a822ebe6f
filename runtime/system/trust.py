"""Trust in the cache folder: models and compiled code run, so other users must not write them.

Root may, as everywhere. Windows protects a user's folders by other means.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from nstrt.runtime.system.files import cache_folder

__all__ = ["distrust_reason", "make_folder"]

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def distrust_reason(path: Path) -> str:
    """Sentence on other users who can write ``path`` or a folder above it in the cache folder.

    Empty if there are none, and for a path outside the cache folder, which the user has named.
    """
    cache = cache_folder()
    if not hasattr(os, "getuid") or not path.is_relative_to(cache):
        return ""
    for each in (path, *path.parents):
        if each.exists() and (reason := _distrust(each)):
            mend = "" if _is_foreign(each) else f", or run: chmod -R go-w {shlex.quote(str(cache))}"
            return (
                f"'{each}' {reason}, who could change the network that nstrt runs; set NSTRT_CACHE "
                f"to a folder of your own{mend}."
            )
        if each == cache:
            break
    return ""


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, not for others to write in, whatever the umask is."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o755, exist_ok=True)


def _distrust(path: Path) -> str:
    status = path.stat()
    if _is_foreign(path):
        return f"belongs to another user ({_user_name(status.st_uid)})"
    # In a sticky folder, files can be added and not replaced.
    if not status.st_mode & _OTHERS_WRITE or status.st_mode & stat.S_ISVTX:
        return ""
    if not status.st_mode & stat.S_IWOTH and _is_private(status.st_gid, status.st_uid):
        return ""
    return f"can be written by other users (mode {stat.S_IMODE(status.st_mode):o})"


def _is_foreign(path: Path) -> bool:
    return path.stat().st_uid not in (0, os.getuid())


def _is_private(group: int, owner: int) -> bool:
    """True for the group of one user alone, which Linux gives to each user."""
    import grp
    import pwd

    try:
        user, members = pwd.getpwuid(owner), grp.getgrgid(group)
    except KeyError:
        return False
    return (
        user.pw_gid == group
        and members.gr_name == user.pw_name
        and set(members.gr_mem) <= {user.pw_name}
    )


def _user_name(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
