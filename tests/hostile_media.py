"""The hostile files of TEST_MEDIA, and what must become of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TAKEN_SINCE = {"type_gif_anim.mp4"}
"""Refused when the manifest was written, as a container that was not on the list: GIF is now."""


def hostile_files(media: Path) -> list[dict[str, Any]]:
    """The manifest's `files`; `expect` is accept, reject (with one of `status`) or either."""
    files: list[dict[str, Any]] = json.loads((media / "hostile" / "manifest.json").read_text())[
        "files"
    ]
    return [{**case, "expect": "accept"} if case["file"] in TAKEN_SINCE else case for case in files]
