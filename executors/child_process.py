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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from executors.base import ProcessLost
from executors.memory_watch import MemoryWatch
from pipeline import Gpu

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 1 << 20
"""A child that writes a longer line is ended."""
STOP_S = 2.0
_CRASHES = (
    signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP,
)  # fmt: skip
"""Signals by which native code ends itself; all others are sent by someone else."""

_CHILD = Path(__file__).resolve().parent.parent / "child" / "main.py"
# What a child inherits: no keys and no server settings (they come in its ChildConfig).
_INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
    "PYTHONPATH", "XDG_CACHE_HOME",
    "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    # for libraries: where models are stored, how they are downloaded, what torch compiles
    "SUBJECT_MODEL",
    "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_ENDPOINT",
    "HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "CC", "CXX",
)  # fmt: skip
_INHERITED_FAMILY = "HF_XET_"
# The child that downloads weights needs the way to the network; no other child uses it, and the
# address of a proxy may hold a password.
_DOWNLOADS = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
_ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""torch reads both; the second is the newer name, the first is known to every version."""


def child_environment(
    environ: Mapping[str, str], *, downloads: bool = False, gpu: Gpu | None = None
) -> dict[str, str]:
    """What a child inherits of `environ`, and which GPU it sees.

    `downloads`: it downloads weights, and may need a proxy for that.
    """
    inherited = {
        name: value
        for name, value in environ.items()
        if name in (*_INHERITED, *_ALLOCATOR)
        or name.startswith(_INHERITED_FAMILY)
        or (downloads and name.lower() in _DOWNLOADS)
    }
    if not any(name in environ for name in _ALLOCATOR):
        # blocks of changing size leave gaps in fixed segments; these grow and shrink
        inherited["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    if gpu is not None and gpu.selector:
        inherited["CUDA_VISIBLE_DEVICES"] = gpu.selector
    return inherited | {
        # small matrices: more threads cost more than they give, and the API needs a core
        "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        "TQDM_DISABLE": "1", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip


class ChildProcess:
    """`environment` is all that the child inherits: see `child_environment`.

    It is killed if it uses more than `memory_mb` (0: no limit). `crash` names the signal if native
    code in it ended it; known after `end`.
    """

    def __init__(self, environment: Mapping[str, str], memory_mb: int = 0) -> None:
        self.is_ready = False
        self.crash = ""
        self._ended: str | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-u", str(_CHILD), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
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
        self._memory_mb = memory_mb
        self._watch = MemoryWatch(self.pid, memory_mb, self.kill) if memory_mb else None

    @property
    def is_alive(self) -> bool:
        return self._ended is None and self._process.poll() is None

    @property
    def _is_too_large(self) -> bool:
        return self._watch is not None and self._watch.exceeded

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
        if self._watch is not None:
            self._watch.stop()
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
        self.crash = next((number.name for number in _CRASHES if code == -number), "")
        limit_gb = self._memory_mb * (1 << 20) / 1e9
        used = f"it used more than {limit_gb:.3g} GB of memory, " if self._is_too_large else ""
        self._ended = f"{used}{_exit_text(code)}, peak memory of children so far {peak_mb:.0f} MB"
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
        named = {int(number): number.name for number in signal.Signals}
        return f"ended by signal {named.get(-code, -code)}"  # real-time signals have no names
    return f"exit code {code}"
