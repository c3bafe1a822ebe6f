"""The command line's words for options: ``--size 640``."""

from __future__ import annotations

from nstrt.runtime.system.words import Spelling

__all__ = ["FlagSpelling"]

_FLAGS = {
    "add_styles": "add-style",
    "axes": "vary",
    "overwrite": "force",
    "processes": "jobs",
    "regions": "region",
}
"""Flags whose names differ from Python's."""


class FlagSpelling(Spelling):
    """Options as flags."""

    def option(self, name: str, value: object = None) -> str:
        flag = f"--{_FLAGS.get(name, name.replace('_', '-'))}"
        return flag if value is None or value is True else f"{flag} {value}"
