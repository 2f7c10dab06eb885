"""Checks an uploaded .glb before a job is queued: glb_reader.py reads all of it, in the sandbox.

Blocks meanwhile (half a second for a small file), so the API calls it in a thread.
"""

from __future__ import annotations

from pathlib import Path

from errors import InvalidParameter
from intake.child import FileTooHard, ask

MAX_MESH_BYTES = 50_000_000


def check_glb(path: Path) -> None:
    """Raises InvalidParameter unless the job's process will read the same file."""
    try:
        ask({"read": "mesh", "path": str(path)}, with_packages=True)
    except FileTooHard as exc:
        raise InvalidParameter(
            "Reading the mesh takes more memory or time than is allowed.",
            hint="Export one mesh with fewer vertices as .glb.",
            field="mesh",
        ) from exc
