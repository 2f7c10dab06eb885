"""How another program (ffmpeg, Blender, gltfpack) is run to make a file, and the error if it fails.

h264.py, blender.py and compact.py run them; child/exports.py handles the error.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

Launch = Callable[..., "subprocess.Popen[bytes]"]
"""Starts a process like subprocess.Popen; jobs pass one that sets limits."""

LOG_CHARACTERS = 4096
"""How much of a program's output is kept: its end."""
POLL_S = 0.1
"""How often `while_waiting` is called and the limits are checked."""

_LARGEST_LOG_BYTES = 16 << 20


class ToolFailed(RuntimeError):
    """An optional file could not be made; the meshes are not affected.

    `log` holds the end of the program's output, for our own log.
    """

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.log = output[-LOG_CHARACTERS:].strip()


def run_tool(
    name: str,
    command: list[str],
    *,
    workdir: Path,
    launch: Launch,
    timeout_s: float,
    while_waiting: Callable[[], None] | None,
    path: str | None = None,
    failure: str = "",
) -> str:
    """Run the command inside `workdir`; its output. Its process group is killed at the end.

    `name` is the program's in messages, `path` its PATH (default: ours), `failure` what an exit
    status other than 0 means. `while_waiting` is called ten times a second; what it raises ends
    the program and reaches the caller. Raises ToolFailed. No process is left in any case.
    """
    home = str(workdir)  # no user's settings, add-ons or caches
    path = path or os.environ.get("PATH", "/usr/bin:/bin")
    environment = {"PATH": path, "LC_ALL": "C.UTF-8", "HOME": home, "TMPDIR": home}
    with tempfile.TemporaryFile(dir=workdir) as log:
        try:
            process = launch(
                command,
                cwd=workdir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except (OSError, subprocess.SubprocessError) as exc:
            raise ToolFailed(f"{name} could not be started") from exc
        try:
            code = _wait(name, process, log, timeout_s, while_waiting)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output = _read(log)
    if code != 0:
        raise ToolFailed(f"{failure or f'{name} failed'} ({code})", output)
    return output


def _wait(
    name: str,
    process: subprocess.Popen[bytes],
    log: IO[Any],
    timeout_s: float,
    while_waiting: Callable[[], None] | None,
) -> int:
    """The exit status."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(POLL_S)
        if while_waiting:
            while_waiting()
        if time.monotonic() > deadline:
            raise ToolFailed(f"{name} did not finish in {timeout_s:g} s", _read(log))
        if os.fstat(log.fileno()).st_size > _LARGEST_LOG_BYTES:
            raise ToolFailed(f"{name} wrote too much output", _read(log))


def _read(log: IO[Any]) -> str:
    """The log's text. By pread: the process shares our position in the file."""
    return os.pread(log.fileno(), _LARGEST_LOG_BYTES, 0).decode(errors="replace")
