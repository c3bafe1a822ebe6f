"""Spelling of options in sentences: each host has its own.

A sentence names an option by :func:`spelled`. The command line writes ``--size 640``, Python
``size=640``, and a dialog its label.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Spelling", "current_spelling", "is_offered", "spelled", "use_spelling"]


class Spelling:
    """Python's spelling, and the interface of the others."""

    def option(self, name: str, value: object = None) -> str:
        """The option that Python calls ``name``, with a value if there is one."""
        return f"{name}=" if value is None else f"{name}={value!r}"

    def offers(self, name: str) -> bool:
        """True if people can set the option in this host."""
        return True


_SPELLING: ContextVar[Spelling] = ContextVar("spelling", default=Spelling())  # noqa: B039


def spelled(name: str, value: object = None) -> str:
    """The option that Python calls ``name`` in the words of the host, with its value."""
    return _SPELLING.get().option(name, value)


def is_offered(name: str) -> bool:
    """True if people can set the option in the host."""
    return _SPELLING.get().offers(name)


def current_spelling() -> Spelling:
    """The spelling of this thread."""
    return _SPELLING.get()


@contextmanager
def use_spelling(spelling: Spelling) -> Iterator[None]:
    """Spell options in sentences of this thread so, while the block runs."""
    token = _SPELLING.set(spelling)
    try:
        yield
    finally:
        _SPELLING.reset(token)
