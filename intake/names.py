"""Makes a client's file name safe to show. It is never used as a path or a part of one."""

from __future__ import annotations

import unicodedata

MAX_BYTES = 255
_FALLBACK = "video"
# control, format (bidi marks among them), surrogate, private use, unassigned, line and paragraph
_UNSHOWN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def shown_name(raw: str | None) -> str:
    """The last part of `raw` in NFC, without control and format characters; at most 255 bytes.

    A lone surrogate (a byte that was not UTF-8) becomes U+FFFD. Never empty, never raises.
    """
    parts = (raw or "").replace("\\", "/").split("/")
    last = next((part for part in reversed(parts) if part.strip()), "")
    readable = "".join(
        "\N{REPLACEMENT CHARACTER}" if "\ud800" <= c <= "\udfff" else c for c in last
    )
    composed = unicodedata.normalize("NFC", readable)
    shown = "".join(c for c in composed if unicodedata.category(c) not in _UNSHOWN).strip()
    return _cut(shown) if shown.strip(". ") else _FALLBACK


def _cut(name: str) -> str:
    """Shorten before the extension, between characters."""
    if len(name.encode()) <= MAX_BYTES:
        return name
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > 16:
        stem, dot, extension = name, "", ""
    left = MAX_BYTES - len((dot + extension).encode())
    return stem.encode()[:left].decode("utf-8", "ignore").rstrip() + dot + extension
