"""The Debian is built from the mirror of this machine."""

from __future__ import annotations

import pytest
from prepare import mirror_for

OLD = """\
# deb http://commented.example/debian bookworm main
deb cdrom:[Debian]/ bookworm main
deb [arch=amd64 signed-by=/k.gpg] https://tools.example/apt cloud main
deb-src http://source.example/debian bookworm main
deb [arch=amd64] http://one.example/debian bookworm main
deb http://two.example/debian bookworm main
"""

NEW = """\
Types: deb
URIs: http://security.example/debian-security
Suites: bookworm-security
Components: main

# The second one.
Types: deb deb-src
URIs:
  http://three.example/debian
  http://four.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /k.gpg
"""


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        ("sources.list", OLD, "http://one.example/debian"),
        ("debian.sources", NEW, "http://three.example/debian"),
        ("debian.sources", "Enabled: no\n" + NEW.split("\n\n")[1], None),
        ("debian.sources", "", None),
    ],
)
def test_the_mirror_is_the_machines_own(name: str, text: str, mirror: str | None) -> None:
    assert mirror_for([("other.list", "# nothing\n"), (name, text)], "bookworm") == mirror


def test_another_release_has_no_mirror_here() -> None:
    assert mirror_for([("sources.list", OLD), ("debian.sources", NEW)], "noble") is None
