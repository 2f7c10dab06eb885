"""How another program (ffmpeg, Blender) is started to make a file, and the error if it fails.

h264.py and blender.py start them; child/exports.py handles the error.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable

Launch = Callable[..., "subprocess.Popen[bytes]"]
"""Starts a process like subprocess.Popen; jobs pass one that sets limits."""

LOG_CHARACTERS = 4096
"""How much of a program's output is kept: its end."""


class ToolFailed(RuntimeError):
    """An optional file could not be made; the meshes are not affected.

    `log` holds the end of the program's output, for our own log.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.log = output[-LOG_CHARACTERS:].strip()
