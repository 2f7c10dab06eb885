"""Checks the header of an uploaded .glb. The child reads the rest (glb_reader.py)."""

from __future__ import annotations

import struct
from pathlib import Path

from errors import InvalidParameter

MAX_MESH_BYTES = 50_000_000


def check_glb(path: Path) -> None:
    """Check the twelve bytes of a GLB header. Raises InvalidParameter.

    Format: glTF 2.0, section 4.4: magic, version, length in bytes.
    """
    with open(path, "rb") as file:
        head = file.read(12)
    if len(head) == 12:
        magic, version, length = struct.unpack("<4sII", head)
        if magic == b"glTF" and version == 2 and length == path.stat().st_size:
            return
    raise InvalidParameter(
        "mesh is not a glTF 2.0 binary file.", hint="Export one mesh as .glb.", field="mesh"
    )
