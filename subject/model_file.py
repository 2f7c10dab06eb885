"""Where the file of the saliency net is. Called by subject/model.py."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

_SHA256 = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"


def model_path() -> Path | None:
    """The file, or None where it is missing or is another one."""
    path = Path(sys.prefix) / "share" / "actionmesh-worker" / "u2netp.onnx"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None
    return path if found == _SHA256 else None
