"""The sandbox: what a program in it sees, its limits, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import InternalError
from video.sandbox import (
    Limits,
    OutOfTime,
    ProgramKilled,
    SandboxedProcess,
    ffmpeg_path,
    launch,
    run_sandboxed,
)

ROOT = Path(__file__).resolve().parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="limits and PDEATHSIG are Linux's")
BLACK = ["-f", "lavfi", "-i", "color=black:s=16x16"]
FOREVER = ["-loglevel", "error", "-re", *BLACK, "-f", "null", "-"]


def python(code: str, limits: Limits | None = None) -> subprocess.CompletedProcess[bytes]:
    process = launch(
        [sys.executable, "-c", code],
        limits=limits or Limits(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_a_sandboxed_program_leaves_the_cpu_to_the_server() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    found = python("import os; print(os.getpriority(os.PRIO_PROCESS, 0))").stdout
    assert int(found) == max(own, 10)


def test_a_sandboxed_program_sees_none_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "https_proxy", "FFREPORT", "HF_TOKEN", "LD_PRELOAD_X"):
        monkeypatch.setenv(name, "secret")
    seen = python("import os; print(sorted(os.environ))").stdout.decode()
    assert "PATH" in seen
    assert not any(name in seen for name in ("API_KEY", "proxy", "FFREPORT", "TOKEN", "PRELOAD"))


def test_a_sandboxed_program_has_no_stdin_and_none_of_our_files(tmp_path: Path) -> None:
    with open(tmp_path / "ours", "w") as ours:
        os.set_inheritable(ours.fileno(), True)
        code = "import os, sys; print(sys.stdin.read() == '', sorted(os.listdir('/dev/fd')))"
        seen = python(code).stdout.decode()
    assert seen.split(" ", 1)[0] == "True"
    assert len(seen.split(",")) <= 4  # 0, 1, 2 and the folder being listed


@LINUX
def test_memory_file_size_and_descriptors_are_limited(tmp_path: Path) -> None:
    small = Limits(memory_mb=512, file_mb=1, open_files=16)
    assert b"MemoryError" in python("bytearray(1 << 30)", small).stderr
    target = str(tmp_path / "big")
    written = python(f"open({target!r}, 'wb').write(bytes(1 << 22))", small)
    assert written.returncode != 0 and os.path.getsize(target) <= 1 << 20
    assert b"Too many open" in python("x = [open('/dev/null') for _ in range(40)]", small).stderr
    assert python("import resource as r; print(r.getrlimit(r.RLIMIT_CORE))").stdout == b"(0, 0)\n"


@LINUX
def test_a_program_that_computes_too_long_is_stopped() -> None:
    assert python("while True: pass", Limits(cpu_s=1)).returncode == -signal.SIGXCPU


@LINUX
def test_ffmpeg_over_its_cpu_time_raises_its_own_error() -> None:
    busy = ["-f", "lavfi", "-i", "testsrc2=s=640x480", "-f", "null", "-"]
    with run_sandboxed(busy, stdin=iter(()), wall_s=60, limits=Limits(cpu_s=1)) as ffmpeg:
        ffmpeg.read(1)
        with pytest.raises(OutOfTime):
            ffmpeg.finish()


def test_the_time_limit_ends_a_program_that_hangs() -> None:
    with run_sandboxed(FOREVER, stdin=iter(()), wall_s=0.5) as ffmpeg:
        assert ffmpeg.read(10) == b""
        with pytest.raises(OutOfTime):
            ffmpeg.finish()


@LINUX
def test_a_program_killed_from_outside_raises_its_own_error() -> None:
    with run_sandboxed(FOREVER, stdin=iter(()), wall_s=30) as ffmpeg:
        os.kill(ffmpeg.pid, signal.SIGKILL)
        with pytest.raises(ProgramKilled):
            ffmpeg.finish()


@LINUX
def test_the_kernels_own_kill_for_too_much_cpu_is_out_of_time() -> None:
    stubborn = "import signal; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    process = launch(
        [sys.executable, "-c", stubborn],
        limits=Limits(cpu_s=1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    sandboxed = SandboxedProcess(process, wall_s=60, cpu_s=1, chunks=None)
    try:
        with pytest.raises(OutOfTime, match="of CPU"):
            sandboxed.finish()
    finally:
        sandboxed.close()


def test_a_program_with_too_much_output_is_killed() -> None:
    noise = ["-loglevel", "error", *BLACK, "-f", "rawvideo", "pipe:1"]
    with run_sandboxed(noise, stdin=iter(()), wall_s=30) as ffmpeg:
        assert len(ffmpeg.read(1000)) == 1000
        status, _ = ffmpeg.finish()
    assert status != 0


@pytest.mark.usefixtures("collected_garbage")
def test_an_error_in_the_block_leaves_no_process_and_no_descriptor() -> None:
    with run_sandboxed(FOREVER, stdin=iter(()), wall_s=30):
        pass  # imports and caches are warm now
    before, threads = os.listdir("/dev/fd"), threading.active_count()
    pids = []
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            with run_sandboxed(FOREVER, stdin=iter(()), wall_s=30) as ffmpeg:
                pids.append(ffmpeg.pid)
                raise ZeroDivisionError
    assert len(os.listdir("/dev/fd")) == len(before) and threading.active_count() == threads
    assert not any(alive(pid) for pid in pids)


def test_an_error_of_the_stdin_chunks_reaches_the_caller() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"abc"
        raise LookupError("the source broke")

    with run_sandboxed(
        ["-f", "png_pipe", "-i", "pipe:0", "-f", "null", "-"], stdin=chunks(), wall_s=30
    ) as ffmpeg:
        with pytest.raises(LookupError):
            ffmpeg.finish()


@LINUX
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_sandboxed_program_dies_with_a_parent_that_is_killed(stopped: bool) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from video.sandbox import launch, ffmpeg_path\n"
        f"child = launch([ffmpeg_path(), *{FOREVER!r}])\n"
        "print(child.pid, flush=True); child.wait()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(ROOT)], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
    assert alive(pid)
    time.sleep(0.3)  # the launcher has replaced itself by now
    if stopped:
        os.kill(pid, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    assert gone_within(pid, 5)


@LINUX
def test_a_sandboxed_program_stays_in_our_group_unless_asked_otherwise() -> None:
    ours = launch([ffmpeg_path(), *FOREVER])
    own = launch([ffmpeg_path(), *FOREVER], start_new_session=True)
    try:
        assert os.getpgid(ours.pid) == os.getpgid(0)
        assert os.getpgid(own.pid) == own.pid
    finally:
        for process in (ours, own):
            process.kill()
            process.wait()


def test_a_missing_program_is_our_fault_and_names_no_path() -> None:
    with pytest.raises(InternalError) as caught:
        launch(["/nowhere/at/all"])
    assert "nowhere" not in caught.value.message


def test_ffmpeg_is_found_without_running_it() -> None:
    code = (
        "import imageio_ffmpeg, sys, video.sandbox\n"
        "started = []\n"
        "sys.addaudithook(lambda name, _: 'Popen' in name and started.append(name))\n"
        "found = video.sandbox.ffmpeg_path()\n"
        "print(len(started), found == imageio_ffmpeg.get_ffmpeg_exe())"
    )
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "0 True\n", done.stderr


def test_the_sandbox_needs_no_numpy() -> None:
    code = (
        "import intake.inspect, intake.url_guard, intake.names, video.sandbox, sys\n"
        "video.sandbox.ffmpeg_path()\n"
        "print(sorted({'numpy', 'cv2', 'scipy', 'trimesh'} & set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert loaded.stdout == "[]\n"
