"""Sentence on errors of the folder for temporary files, which is seldom that of the result."""

from __future__ import annotations

import tempfile

__all__ = ["temporary_error"]


def temporary_error(content: str, error: OSError) -> str:
    """Say that the folder for temporary files cannot keep ``content``, and what to do."""
    # Without any usable folder there is no name.
    place = f", '{tempfile.tempdir}'," if tempfile.tempdir else ""
    return (
        f"The folder for temporary files{place} cannot keep {content} "
        f"({error.strerror or error}); free some space there, or name another folder in TMPDIR."
    )
