"""A program that is called like Blender, and blocks the export of a job until `release`."""

from __future__ import annotations

import os
from pathlib import Path


class BlockingBlender:
    """For BLENDER_PATH: `program` waits until `release`, then makes nothing (only a warning)."""

    def __init__(self, folder: Path) -> None:
        self._began, self._go_on = folder / "blender-began", folder / "blender-go-on"
        program = folder / "holds-up"
        self.program = str(program)
        program.write_text(
            '#!/bin/sh\n[ "$1" = --version ] && echo Blender 4.2.0 && exit 0\n'
            f"echo $$ >> {self._began}\nwhile [ ! -e {self._go_on} ]; do sleep 0.05; done\n"
        )
        program.chmod(0o755)

    def count(self) -> int:
        """How often it was called."""
        return len(self._pids())

    def is_running(self) -> bool:
        """True while one of its processes runs."""
        return any(os.path.exists(f"/proc/{pid}/cwd") for pid in self._pids())

    def release(self) -> None:
        """Let all calls end."""
        self._go_on.touch()

    def _pids(self) -> list[str]:
        return self._began.read_text().split() if self._began.exists() else []
