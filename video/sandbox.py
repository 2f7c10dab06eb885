"""Runs ffmpeg and other programs in a sandbox: few rights, resource limits, a time limit.

On Linux a sandboxed program is killed when the thread that started it ends, also by SIGKILL;
elsewhere at the end of the `with` block. What ffmpeg is asked to do is in ffmpeg.py, probe.py and
frames.py. Imports no numpy: the API process uses it too. sandbox_launcher.py sets the limits.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from errors import InternalError
from video.ffmpeg_phrases import reached_cpu_limit

_LAUNCHER = Path(__file__).with_name("sandbox_launcher.py")
_STDERR_BYTES = 64 * 1024

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "AV_LOG_FORCE_NOCOLOR": "1"}
"""The whole environment of a sandboxed program: no keys, no proxies, no FFREPORT."""


@dataclass(frozen=True)
class Limits:
    """Limits of one process. `file_mb` limits every file that it writes."""

    memory_mb: int = 3072
    cpu_s: int = 20
    file_mb: int = 16
    open_files: int = 64

    def as_argument(self) -> str:
        """As sandbox_launcher.py reads it."""
        memory, file = self.memory_mb << 20, self.file_mb << 20
        return f"CORE=0,AS={memory},CPU={self.cpu_s},FSIZE={file},NOFILE={self.open_files}"


PROBE = Limits()
DECODE = Limits(cpu_s=120)
ENCODE = Limits(cpu_s=300, file_mb=1024)
"""For our own files: `partial(launch, limits=ENCODE)` replaces subprocess.Popen."""


class OutOfTime(Exception):
    """The program reached our time limit or its limit of CPU time."""


class ProgramKilled(InternalError):
    """The program was killed from outside: most likely by the kernel, out of memory."""


def launch(
    args: Sequence[str], *, limits: Limits = DECODE, **popen: Any
) -> subprocess.Popen[bytes]:
    """`subprocess.Popen(args, **popen)` in the sandbox; the first argument is a program's path.

    The process stays in our group unless `start_new_session` says otherwise, and gets ENVIRONMENT
    unless `env` says otherwise. It is killed when the calling thread ends.
    """
    program = shutil.which(args[0])
    if program is None:
        raise InternalError("A program that this server needs is missing.")
    # -I and -S: no site packages, no PYTHON* variables, half the time to start
    launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), limits.as_argument()]
    popen.setdefault("env", ENVIRONMENT)
    popen.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen([*launcher, program, *args[1:]], **popen)


@lru_cache(maxsize=1)
def ffmpeg_path() -> str:
    """The ffmpeg that IMAGEIO_FFMPEG_EXE names, that of imageio-ffmpeg, or the system's.

    As imageio-ffmpeg looks for it, which also runs it once: if that run is killed, then for that
    package there is no ffmpeg until the process ends. Raises InternalError if there is none.
    """
    if named := os.environ.get("IMAGEIO_FFMPEG_EXE"):
        return named
    package = importlib.util.find_spec("imageio_ffmpeg")
    folders = package.submodule_search_locations if package else None
    included = [
        found for folder in folders or () for found in Path(folder).glob("binaries/ffmpeg-*")
    ]
    found = str(included[0]) if included else shutil.which("ffmpeg")
    if found is None:
        raise InternalError("ffmpeg is missing on this server.")
    return found


class SandboxedProcess:
    """A running program: read its `stdout`, then `finish()`."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        wall_s: float,
        cpu_s: float,
        chunks: Iterable[bytes] | None,
    ) -> None:
        assert process.stdout is not None and process.stderr is not None
        self.pid = process.pid
        self.stdout: IO[bytes] = process.stdout
        self._process = process
        self._wall_s = wall_s
        self._cpu_s = cpu_s
        self._cut_short = False
        self._is_late = threading.Event()
        self._feed_error: Exception | None = None
        self._errors = bytearray()
        self._timer = threading.Timer(wall_s, self._on_time_limit)
        self._stderr_reader = threading.Thread(target=self._read_errors, args=(process.stderr,))
        self._timer.daemon = True
        self._feeder: threading.Thread | None = None
        if process.stdin is not None and chunks is not None:
            self._feeder = threading.Thread(target=self._feed, args=(process.stdin, chunks))
            self._feeder.start()
        self._timer.start()
        self._stderr_reader.start()

    def read(self, most: int) -> bytes:
        """All of stdout up to `most` bytes; a program that writes more is killed."""
        found = self.stdout.read(most + 1)
        if len(found) > most:
            self._cut_short = True
            self._process.kill()
        return found[:most]

    def finish(self) -> tuple[int, str]:
        """Wait for the end; exit status (negative: the signal) and the first 64 KB of stderr.

        Raises OutOfTime, ProgramKilled, and what the chunks for stdin raised. Output that was not
        read is lost.
        """
        self.stdout.close()
        used_s = _final_cpu_s(self.pid)
        status = self._process.wait()
        self._stderr_reader.join()
        if self._feeder is not None:
            self._feeder.join()
        if self._feed_error is not None:
            raise self._feed_error
        stderr = self._errors.decode("utf-8", "replace")
        late = self._is_late.is_set() or status == -signal.SIGXCPU
        if late or reached_cpu_limit(stderr):
            raise OutOfTime(f"{self._wall_s:g} s")
        if status == -signal.SIGKILL and not self._cut_short:
            if used_s >= self._cpu_s:  # SIGKILL comes a second after SIGXCPU
                raise OutOfTime(f"{self._cpu_s:g} s of CPU")
            raise ProgramKilled("A program of this server was killed; memory may be short.")
        return status, stderr

    def close(self) -> None:
        """Kill the program if it still runs, wait for it and for the threads. Idempotent."""
        self._timer.cancel()
        self._process.kill()
        with contextlib.suppress(OSError):
            self.stdout.close()
        self._process.wait()
        self._stderr_reader.join()
        self._timer.join()
        if self._feeder is not None:
            self._feeder.join()

    def _on_time_limit(self) -> None:
        if self._process.poll() is None:
            self._is_late.set()
            self._process.kill()

    def _read_errors(self, stderr: IO[bytes]) -> None:
        with stderr:
            while chunk := stderr.read1(8192):  # type: ignore[attr-defined]
                self._errors += chunk[: _STDERR_BYTES - len(self._errors)]

    def _feed(self, pipe: IO[bytes], chunks: Iterable[bytes]) -> None:
        try:
            with contextlib.suppress(BrokenPipeError), pipe:
                for chunk in chunks:
                    pipe.write(chunk)
        except Exception as exc:  # noqa: BLE001 - carried to finish(), in the caller's thread
            self._feed_error = exc


def _final_cpu_s(pid: int) -> float:
    """Wait for a process without reaping it; its CPU seconds, infinite if not known."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, AttributeError):  # some systems lack waitid or /proc
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


@contextlib.contextmanager
def run_sandboxed(
    args: Sequence[str],
    *,
    stdin: IO[bytes] | Iterable[bytes],
    wall_s: float,
    limits: Limits = PROBE,
    pass_fds: Sequence[int] = (),
    program: Sequence[str] = (),
    environment: Mapping[str, str] = ENVIRONMENT,
) -> Iterator[SandboxedProcess]:
    """Start ffmpeg, or another `program`, with `args`; it has ended after the block in any case.

    `stdin` is an open file (the program gets its descriptor and may seek in it) or chunks of bytes,
    which a thread feeds through a pipe.
    """
    from_file = hasattr(stdin, "fileno")
    process = launch(
        [*(program or [ffmpeg_path()]), *args],
        env=environment,
        limits=limits,
        stdin=stdin if from_file else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=tuple(pass_fds),
    )
    running = SandboxedProcess(process, wall_s, limits.cpu_s, None if from_file else stdin)
    try:
        yield running
    finally:
        running.close()
