"""The child process as its parent sees it: start, send a line, read lines, kill.

Knows the form of the lines, not what they mean for a job: supervisor.py does. A child that writes
an invalid line is ended.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from executors.base import ProcessLost

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 1 << 20
"""A child that writes a longer line is ended."""
STOP_S = 2.0

_CHILD = Path(__file__).resolve().parent.parent / "child" / "main.py"
# What a child inherits: no keys, no proxies, no server settings (they come in its ChildConfig).
_INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    # for libraries: where models are stored, how they are downloaded, what torch caches
    "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE",
    "TORCHINDUCTOR_CACHE_DIR", "PYTORCH_ALLOC_CONF",
)  # fmt: skip


class ChildProcess:
    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment.update(
            # small matrices: more threads cost more than they give, and the API needs a core
            OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1",
            TQDM_DISABLE="1", PYTHONDONTWRITEBYTECODE="1",
        )  # fmt: skip
        self.is_ready = False
        self._ended: str | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(_CHILD), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self.pid = self._process.pid
        assert self._process.stdout and self._process.stdin
        self.output = self._process.stdout.fileno()
        os.set_blocking(self.output, False)
        os.set_blocking(self._process.stdin.fileno(), False)
        self._unread = b""
        self._drain = threading.Thread(target=self._drain_stderr, daemon=True)
        self._drain.start()

    @property
    def is_alive(self) -> bool:
        return self._ended is None and self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """One line to the child. Raises ProcessLost if it does not read, or has ended."""
        assert self._process.stdin
        line = json.dumps(message).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._process.stdin.fileno(), line) :]
        except BlockingIOError:  # about 64 KB are unread
            raise ProcessLost("the child does not read") from None
        except (OSError, ValueError) as exc:
            raise ProcessLost("the child has ended") from exc

    def messages(self) -> Iterator[dict[str, Any]]:
        """What has arrived on `output`, without waiting. Raises ProcessLost when the pipe ends."""
        if self._ended is not None:
            raise ProcessLost("the child has ended")
        try:
            read = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return
        if not read:
            raise ProcessLost("the child ended")
        *lines, self._unread = (self._unread + read).split(b"\n")
        if len(self._unread) > MAX_LINE_BYTES or any(len(ln) > MAX_LINE_BYTES for ln in lines):
            raise ProcessLost("the child sent an endless line")
        for line in lines:
            yield _message(line)

    def kill(self) -> None:
        """SIGKILL to the child and to all processes that it started. From any thread."""
        if self._ended is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> str:
        """Kill, reap and close; returns how it ended. Only the worker thread calls this."""
        if self._ended is not None:
            return self._ended
        self.kill()
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            code = None
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        self._drain.join(STOP_S)
        peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        self._ended = f"{_exit_text(code)}, peak memory of children so far {peak_mb:.0f} MB"
        return self._ended

    def _drain_stderr(self) -> None:
        """Log the child's own lines; an unread pipe would stop it."""
        assert self._process.stderr
        with self._process.stderr as pipe:
            while line := pipe.readline(8192):
                text = line.decode(errors="replace").rstrip()
                log.info("child %d: %s", self.pid, text)


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
        if not isinstance(message, dict) or not isinstance(message["is"], str):
            raise ValueError("not a message")
    except (ValueError, KeyError, RecursionError):
        raise ProcessLost("the child sent a line that is not in our protocol") from None
    return message


def _exit_text(code: int | None) -> str:
    if code is None:
        return "it could not be killed"
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    return f"exit code {code}"
