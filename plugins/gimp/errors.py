"""What can go wrong with the GIMP filter and is for a person to mend."""

from __future__ import annotations

from nstrt.runtime.errors import NstrtError

__all__ = ["GimpError"]


class GimpError(NstrtError):
    """There is no GIMP that the filter can be put into, or it does not work from there."""
