"""One resident child process on this machine, supervised by the thread that calls `run`.

The child loads the pipeline once and stays warm. A crash, a hang or a cancel that goes unanswered
ends the child, with everything it started, and never the server. Only the worker thread may start
children: Linux ties a child's life to the thread that made it.
"""

from __future__ import annotations

import collections
import json
import logging
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import Cancelled, ServiceError, TimedOut
from executors.base import JobFailed, Progress, Result, Task, WorkerLost

log = logging.getLogger(__name__)

CANCEL_GRACE_S = 10.0
"""A child that does not answer a cancel in this time is killed."""
MAX_LINE_BYTES = 1 << 20
"""Longer lines are no protocol of ours: the child is killed."""
KEPT_STDERR_LINES = 400
LOOK_EVERY_S = 0.1
"""How often a running job looks for cancel and deadline."""
STOP_S = 2.0

_CHILD = Path(__file__).with_name("child.py")
# What a child may know of our environment: no keys, no secrets, no proxies.
_PASSED_ON = (
    "PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "VIRTUAL_ENV",
    "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES",
    "HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "BLENDER_PATH", "ACTIONMESH_COMPILE",
    "ACTIONMESH_REVISION", "TRIPOSG_REVISION", "DINOV2_REVISION", "RMBG_REVISION", "CRASH_AT",
    "TORCHINDUCTOR_CACHE_DIR", "PIPELINE_MODULE",
)  # fmt: skip


@dataclass(frozen=True)
class ChildOptions:
    """How children are started.

    `job_timeout_s` bounds one attempt. Loading comes before it, and may be silent for as long.
    `memory_mb` bounds what a child may write to (0: nothing does).
    """

    pipeline: str
    job_timeout_s: float = 1800.0
    idle_unload_s: float = 0.0
    log_format: str = "text"
    memory_mb: int = 0
    extra_environment: tuple[tuple[str, str], ...] = ()


class LocalExecutor:
    """Runs tasks in one child; starts a new one when the last is gone."""

    capacity = 1

    def __init__(self, options: ChildOptions) -> None:
        self.options = options
        self.broken: ServiceError | None = None
        self.loading: dict[str, int] | None = None
        self._child: _Child | None = None
        self._closed = False
        self._busy = False
        self._idle_since = time.monotonic()
        self._lock = threading.Lock()

    @property
    def is_ready(self) -> bool:
        """True once a child has loaded its pipeline (it may since rest, if asked to)."""
        child = self._child
        return child is not None and child.is_ready

    @property
    def is_resting(self) -> bool:
        """True if the child was ended because nothing was to do."""
        return self._child is None and self.broken is None and not self._closed

    def start(self) -> None:
        """Start the child and let it load while nothing waits for it."""
        self._living_child()

    def rest(self) -> None:
        """Keep an eye on an idle child; end it after IDLE_UNLOAD_SECONDS."""
        child = self._child
        if child is None:
            return
        try:
            for event in child.events(0.0):
                self._note(child, event)
        except WorkerLost as lost:
            log.error("the idle child is lost: %s; %s", lost, child.end())
            self._drop(child)
            return
        idle_s = time.monotonic() - self._idle_since
        if self.options.idle_unload_s and child.is_ready and idle_s > self.options.idle_unload_s:
            log.info("child %d ends: idle for %.0f s", child.pid, idle_s)
            self._drop(child)

    def run(
        self, task: Task, on_progress: Callable[[Progress], None], cancelled: threading.Event
    ) -> Result:
        """See executors.base.Executor. A deadline that passes is a JobFailed with TimedOut."""
        self.broken = None
        with self._lock:
            self._busy = True
        child: _Child | None = None
        try:
            child = self._living_child()
            return self._run(child, task, on_progress, cancelled)
        except WorkerLost as lost:
            if child is None:
                raise
            reason = child.end()
            self._drop(child)
            if cancelled.is_set():
                raise Cancelled from lost
            raise WorkerLost(f"{lost}; {reason}") from None
        finally:
            self._idle_since = time.monotonic()
            with self._lock:
                self._busy = False

    def close(self) -> None:
        """End the child; a run under way raises WorkerLost, and reaps it."""
        with self._lock:
            self._closed = True
            child, busy = self._child, self._busy
        if child is not None:
            child.kill()
            if not busy:
                self._drop(child)

    # --- one run

    def _run(
        self,
        child: _Child,
        task: Task,
        on_progress: Callable[[Progress], None],
        cancelled: threading.Event,
    ) -> Result:
        child.send({"do": "run", "task": task.as_record()})
        deadline = time.monotonic() + self.options.job_timeout_s
        give_up: float | None = None
        while True:
            for event in child.events(LOOK_EVERY_S):
                if event["is"] == "progress":
                    on_progress(_progress(event))
                elif event["is"] == "finished":
                    return _result(event)
                elif event["is"] == "cancelled":
                    raise Cancelled
                elif event["is"] == "failed":
                    raise JobFailed(ServiceError.from_record(event["error"]))
                else:
                    self._note(child, event)
                    if self.broken is not None:
                        raise JobFailed(self.broken)
                    deadline = time.monotonic() + self.options.job_timeout_s  # it loads
            now = time.monotonic()
            if cancelled.is_set() and give_up is None:
                child.send({"do": "cancel"})
                give_up = now + CANCEL_GRACE_S
            if give_up is not None and now > give_up:
                raise WorkerLost(f"no answer to a cancel for {CANCEL_GRACE_S:.0f} s")
            if now > deadline:
                self._drop(child)
                limit = self.options.job_timeout_s
                raise JobFailed(
                    TimedOut(f"The job took longer than {limit:.0f} s.", timeout_s=limit)
                )

    def _note(self, child: _Child, event: dict[str, Any]) -> None:
        """What a child says beside its jobs."""
        if event["is"] == "ready":
            child.is_ready, self.broken, self.loading = True, None, None
            log.info("child %d is ready", child.pid)
        elif event["is"] == "loading":
            self.loading = {k: int(event[k]) for k in ("done_bytes", "total_bytes")}
        elif event["is"] == "broken":
            self.broken = ServiceError.from_record(event["error"])
            self._drop(child)

    def _living_child(self) -> _Child:
        child = self._child
        if child is not None and child.is_alive:
            return child
        if child is not None:
            self._drop(child)
        with self._lock:
            if self._closed:
                raise WorkerLost("the server is stopping")
            try:
                self._child = _Child(self.options)
            except OSError as exc:
                raise WorkerLost(f"no child could be started: {exc.strerror}") from exc
            return self._child

    def _drop(self, child: _Child) -> None:
        child.end()
        with self._lock:
            if self._child is child:
                self._child = None


class _Child:
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
        os.set_blocking(self._process.stdout.fileno(), False)
        os.set_blocking(self._process.stdin.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._unread = b""
        self._stderr: collections.deque[str] = collections.deque(maxlen=KEPT_STDERR_LINES)
        self._drain = threading.Thread(target=self._drain_stderr, daemon=True)
        self._drain.start()
        log.info("child %d starts: pipeline %s", self.pid, options.pipeline)

    @property
    def is_alive(self) -> bool:
        """False once the process has ended."""
        return self._ended is None and self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """One line to the child. Raises WorkerLost if it does not read, or is gone."""
        assert self._process.stdin
        line = json.dumps(message).encode() + b"\n"
        deadline = time.monotonic() + CANCEL_GRACE_S
        while line:
            try:
                line = line[os.write(self._process.stdin.fileno(), line) :]
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise WorkerLost("the child does not read") from None
                time.sleep(LOOK_EVERY_S)
            except (OSError, ValueError) as exc:
                raise WorkerLost("the child is gone") from exc

    def events(self, timeout_s: float) -> Iterator[dict[str, Any]]:
        """What has arrived, waiting at most `timeout_s`. Raises WorkerLost when the pipe ends."""
        if not self._selector.select(timeout_s):
            return
        assert self._process.stdout
        try:
            read = os.read(self._process.stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return
        except (OSError, ValueError) as exc:
            raise WorkerLost("the child is gone") from exc
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
        self._selector.close()
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
                self._stderr.append(text)
                log.info("child %d: %s", self.pid, text)


def _event(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
        if not isinstance(event, dict) or not isinstance(event["is"], str):
            raise ValueError("not an event")
    except (ValueError, KeyError, RecursionError):
        raise WorkerLost("the child sent a line that is no protocol of ours") from None
    return event


def _progress(event: dict[str, Any]) -> Progress:
    try:
        return Progress(**{key: value for key, value in event.items() if key != "is"})
    except TypeError:
        raise WorkerLost("the child sent a progress that is none") from None


def _result(event: dict[str, Any]) -> Result:
    try:
        return Result.from_record(event["result"])
    except (KeyError, TypeError):
        raise WorkerLost("the child sent a result that is none") from None


def _how(code: int | None) -> str:
    if code is None:
        return "it could not be killed"
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}"
    return f"exit code {code}"
