"""Choice of the colour encoding of a picture's samples, by order of precedence."""

from __future__ import annotations

from nstrt.runtime.pictures.colors import icc
from nstrt.runtime.pictures.colors.encoding import ADOBE_RGB
from nstrt.runtime.pictures.colors.to_srgb import ColorSource
from nstrt.runtime.pictures.formats.facts import Facts, hdr_note, press_note, profile_note

__all__ = ["choose_source"]


def choose_source(
    facts: Facts, *, profile: bytes | None, channels: int, adobe_rgb: bool
) -> ColorSource:
    """The encoding of ``channels`` colour channels; adds notes on ignored and guessed ones.

    PNG's cICP precedes an ICC profile, which precedes all else. EXIF's Adobe RGB comes last.
    """
    source: ColorSource = facts.encoding
    if source is None and profile is not None and icc.is_usable(profile, channels):
        source = profile
    elif source is None:
        harmless = channels == 1 and profile is not None and icc.keeps_grays(profile)
        if (profile is not None or facts.expects_profile) and not harmless:
            facts.notes.append(profile_note(facts.name))
        source = facts.fallback or (ADOBE_RGB if adobe_rgb else None)
        if channels == 4:
            facts.notes.append(press_note(facts.name))
    if not isinstance(source, bytes | None) and channels < 4 and source.hdr_name:
        facts.notes.append(hdr_note(facts.name, source))
    return source
