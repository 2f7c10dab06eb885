"""Starts Blender, or a Python that has bpy, to read files with blender_reader.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NO_USD = 77
READER = Path(__file__).with_name("blender_reader.py")


def read_with_blender(
    blender: str, paths: list[Path], timesteps: int, fps: float
) -> list[dict[str, np.ndarray[Any, Any]]]:
    """What Blender finds in each of these files of one folder, at k / fps seconds."""
    folder = paths[0].parent
    says = subprocess.run([blender, "--version"], capture_output=True, check=True).stdout
    flags = ["-I"] if says.startswith(b"Python") else ["-b", "--factory-startup"]
    flags += [] if says.startswith(b"Python") else ["--python-exit-code", "3", "-P"]
    reading = subprocess.run(
        [blender, *flags, str(READER), "--", str(timesteps), str(fps), *map(str, paths)],
        env={**os.environ, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=180,
    )
    if reading.returncode == NO_USD:
        pytest.skip("this Blender was built without USD")
    assert reading.returncode == 0, reading.stdout[-3000:].decode(errors="replace")
    found = []
    for path in paths:
        with np.load(f"{path}.npz") as arrays:
            found.append(dict(arrays))
    return found
