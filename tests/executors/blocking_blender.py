"""A program that is called as Blender is and holds the files of a job up until told to go on."""

from __future__ import annotations

import os
from pathlib import Path


class BlockingBlender:
    """For BLENDER_PATH: `program` waits until `release`, then makes nothing (a mere warning)."""

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
        """True while any of them lives."""
        return any(os.path.exists(f"/proc/{pid}/cwd") for pid in self._pids())

    def release(self) -> None:
        """Hold nothing up any more."""
        self._go_on.touch()

    def _pids(self) -> list[str]:
        return self._began.read_text().split() if self._began.exists() else []
