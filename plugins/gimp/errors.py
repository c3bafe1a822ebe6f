"""Errors of the GIMP filter's installation that the user can act on."""

from __future__ import annotations

from nstrt.runtime.errors import NstrtError

__all__ = ["GimpError"]


class GimpError(NstrtError):
    """The filter cannot be installed into a GIMP, or does not work from there."""

    code = "gimp"
