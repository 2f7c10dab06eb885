"""The child process as its parent sees it: how it is started, spoken to, listened to and ended.

Knows the protocol's lines, not what they mean for a job: supervisor.py does. A child may say
anything; what is no line of ours ends it.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job.task import WorkerLost

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 1 << 20
"""Longer lines are no protocol of ours."""
STOP_S = 2.0

_CHILD = Path(__file__).resolve().parent.parent / "child" / "main.py"
# What a child may know of our environment: no keys, no secrets, no proxies.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "BLENDER_PATH", "ACTIONMESH_COMPILE",
    "ACTIONMESH_REVISION", "TRIPOSG_REVISION", "DINOV2_REVISION", "RMBG_REVISION", "CRASH_AT",
    "ACTIONMESH_ANY_CHECKOUT", "TORCHINDUCTOR_CACHE_DIR", "PYTORCH_ALLOC_CONF", "HF_HUB_CACHE",
)  # fmt: skip


@dataclass(frozen=True)
class ChildOptions:
    """How children are started.

    Without a name for its `pipeline` a child only writes files. `job_timeout_s` bounds one attempt.
    Loading comes before it, and may be silent for as long. `memory_mb` bounds what a child may
    write to (0: nothing does). With `separate_files` a second child writes the files, so that the
    GPU of the first need not wait for them.
    """

    pipeline: str
    job_timeout_s: float = 1800.0
    idle_unload_s: float = 0.0
    log_format: str = "text"
    memory_mb: int = 0
    separate_files: bool = False
    extra_environment: tuple[tuple[str, str], ...] = ()


class ChildProcess:
    """One process and its three pipes."""

    def __init__(self, options: ChildOptions) -> None:
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment.update(options.extra_environment)
        environment.update(
            # small matrices: more threads cost more than they give, and the API needs a core
            OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1",
            TQDM_DISABLE="1", PYTHONDONTWRITEBYTECODE="1",
        )  # fmt: skip
        self.is_ready = False
        self._ended: str | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(_CHILD), str(os.getpid()), options.pipeline,
             options.log_format, str(options.memory_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )  # fmt: skip
        self.pid = self._process.pid
        assert self._process.stdout and self._process.stdin
        self.output = self._process.stdout.fileno()
        os.set_blocking(self.output, False)
        os.set_blocking(self._process.stdin.fileno(), False)
        self._unread = b""
        self._drain = threading.Thread(target=self._drain_stderr, daemon=True)
        self._drain.start()
        log.info("child %d starts: %s", self.pid, options.pipeline or "it writes files")

    @property
    def is_alive(self) -> bool:
        """False once the process has ended."""
        return self._ended is None and self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """One line to the child. Raises WorkerLost if it does not read, or is gone."""
        assert self._process.stdin
        line = json.dumps(message).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._process.stdin.fileno(), line) :]
        except BlockingIOError:  # it has left some 64 KB unread
            raise WorkerLost("the child does not read") from None
        except (OSError, ValueError) as exc:
            raise WorkerLost("the child is gone") from exc

    def events(self) -> Iterator[dict[str, Any]]:
        """What has arrived on `output`, without waiting. Raises WorkerLost when the pipe ends."""
        if self._ended is not None:
            raise WorkerLost("the child is gone")
        try:
            read = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return
        if not read:
            raise WorkerLost("the child ended")
        *lines, self._unread = (self._unread + read).split(b"\n")
        if len(self._unread) > MAX_LINE_BYTES or any(len(ln) > MAX_LINE_BYTES for ln in lines):
            raise WorkerLost("the child sent an endless line")
        for line in lines:
            yield _event(line)

    def kill(self) -> None:
        """SIGKILL to the child and all it started. From any thread."""
        if self._ended is None:
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def end(self) -> str:
        """Kill, reap and close; says how it ended. Only the worker thread calls this."""
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
        self._ended = f"{_how(code)}, peak memory of children so far {peak_mb:.0f} MB"
        return self._ended

    def _drain_stderr(self) -> None:
        """Log the child's own lines; an unread pipe would stop it."""
        assert self._process.stderr
        with self._process.stderr as pipe:
            while line := pipe.readline(8192):
                text = line.decode(errors="replace").rstrip()
                log.info("child %d: %s", self.pid, text)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
        if not isinstance(event, dict) or not isinstance(event["is"], str):
            raise ValueError("not an event")
    except (ValueError, KeyError, RecursionError):
        raise WorkerLost("the child sent a line that is no protocol of ours") from None
    return event


def _how(code: int | None) -> str:
    if code is None:
        return "it could not be killed"
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    return f"exit code {code}"
