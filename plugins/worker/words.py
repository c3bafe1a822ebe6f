"""A host's words for options: its dialog's labels, or plain names."""

from __future__ import annotations

from collections.abc import Mapping

from nstrt.runtime.system.words import Spelling

__all__ = ["LabelSpelling"]


class LabelSpelling(Spelling):
    """Options by the ``labels`` of a dialog, by plain names where it has none."""

    def __init__(self, labels: Mapping[str, str] | None = None) -> None:
        self._labels = labels or {}

    def option(self, name: str, value: object = None) -> str:
        label = self._labels.get(name)
        words = name.replace("_", " ") if label is None else f"'{label}'"
        return words if value is None or value is True else f"{words} {value}"

    def offers(self, name: str) -> bool:
        return not self._labels or name in self._labels
