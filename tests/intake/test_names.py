"""How file names from clients are shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.names import shown_name


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\x.mp4", "x.mp4"),
        ("C:\\videos\\x.mp4", "x.mp4"),
        ("videos/", "videos"),
        ("a\r\nSet-Cookie: x.mp4", "aSet-Cookie: x.mp4"),
        ("cod\u202e4pm.exe", "cod4pm.exe"),
        ("e\u0301.mp4", "\u00e9.mp4"),
        ("\udcff.mp4", "\N{REPLACEMENT CHARACTER}.mp4"),
        ("<img src=x onerror=alert(1)>.mp4", "<img src=x onerror=alert(1)>.mp4"),  # never markup
        ("\U0001f600.mp4", "\U0001f600.mp4"),
        (None, "video"),
        *((nothing, "video") for nothing in ("", " ", "/", "..", "\0\n")),
    ],
)
def test_shown_names(raw: str | None, shown: str) -> None:
    assert shown_name(raw) == shown


def test_a_long_name_keeps_its_extension() -> None:
    name = shown_name("\u00e9" * 400 + ".mp4")
    assert len(name.encode()) in (254, 255) and name.endswith("\u00e9.mp4")
    assert len(shown_name("x." + "y" * 400).encode()) == 255


@given(st.text(st.characters(exclude_categories=())))
def test_any_name_becomes_one_line_of_text(raw: str) -> None:
    name = shown_name(raw)
    assert 0 < len(name.encode()) <= 255
    assert name == unicodedata.normalize("NFC", name) and name == name.strip()
    assert not any(c in "/\\" or unicodedata.category(c)[0] == "C" for c in name)
    assert shown_name(name) == name
