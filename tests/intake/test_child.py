"""The program that reads strangers' files for the API process: how it ends, and who is to blame."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from errors import InternalError, VideoUnreadable
from intake.child import FileTooHard, ask
from intake.inspect import inspect
from tests.api.bodies import frames_zip
from tests.faults.processes import command, descendants
from tests.intake.glb_files import glb
from tests.video.test_frames_zip import png, zipped
from tests.waiting import wait_until
from video.sandbox import Limits, ProgramKilled, ffmpeg_path

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and Linux's limits")


class Asked(threading.Thread):
    """`ask` about a pipe that nobody writes to: the program waits until it is killed."""

    def __init__(self, pipe: Path) -> None:
        super().__init__()
        self.question = {"read": "clip", "path": str(pipe), "container": "zip", "frames": {}}
        self.raised: BaseException | None = None

    def run(self) -> None:
        try:
            ask(self.question)
        except BaseException as exc:  # noqa: BLE001 - what it is, is what the tests compare
            self.raised = exc


def _is_program(named: str) -> bool:
    return "child_main" in named and "sandbox_launcher" not in named


@contextmanager
def waiting_child(folder: Path) -> Iterator[tuple[Asked, int]]:
    """The thread that asks, and the process id of the program."""
    ffmpeg_path()  # the first call runs a program, which is not the one that is looked for
    os.mkfifo(folder / "pipe")
    others = descendants(os.getpid())
    asked = Asked(folder / "pipe")
    asked.start()

    def programs() -> list[int]:
        """Not while the process is still a copy of this one, or the launcher."""
        found = descendants(os.getpid(), besides=others)
        return [pid for pid in found if _is_program(command(pid))]

    wait_until(lambda: bool(programs()))
    (pid,) = programs()
    try:
        yield asked, pid
    finally:
        asked.join(30)
        assert not asked.is_alive()


@pytest.mark.parametrize(
    ("killed_by", "raised"),
    [(signal.SIGKILL, ProgramKilled), (signal.SIGSEGV, FileTooHard), (signal.SIGABRT, FileTooHard)],
)
def test_a_crash_is_the_files_fault_and_a_kill_from_outside_is_not(
    killed_by: signal.Signals, raised: type[Exception], tmp_path: Path
) -> None:
    with waiting_child(tmp_path) as (asked, pid):
        os.kill(pid, killed_by)
    assert isinstance(asked.raised, raised)


def test_the_program_has_limits_and_none_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    with waiting_child(tmp_path) as (_, pid):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        os.kill(pid, signal.SIGKILL)
    assert b"PATH=" in environment and b"secret" not in environment
    values = {line[:26].strip(): line[26:].split()[:2] for line in limits}
    assert int(values["Max address space"][1]) <= 3 << 30
    assert int(values["Max cpu time"][1]) <= 61 and int(values["Max open files"][1]) <= 64
    assert int(values["Max file size"][1]) <= 16 << 20 and values["Max core file size"][0] == "0"


def test_a_file_that_needs_too_much_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = png(64, 64, pixels=bytes(65 * 64))
    files = {f"{k}.png": frame for k in range(1, 16)}
    path = zipped(tmp_path / "clip.zip", {"0.png": frame + bytes(50 << 20), **files})
    assert inspect(path).used_frames == 16
    monkeypatch.setattr("intake.child._LIMITS", Limits(memory_mb=100))
    with pytest.raises(VideoUnreadable, match="memory or time"):
        inspect(path)


def test_a_file_that_takes_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("intake.child._WALL_S", 0.01)
    (tmp_path / "clip.zip").write_bytes(frames_zip())
    with pytest.raises(VideoUnreadable, match="memory or time"):
        inspect(tmp_path / "clip.zip")


@pytest.mark.parametrize("answer", ["", "[]", "{}", '{"found": 3}', '{"refused": {"code": "x"}}'])
def test_any_other_answer_is_our_fault(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program.py"
    program.write_text(f"print({answer!r})")
    monkeypatch.setattr("intake.child._PROGRAM", str(program))
    with pytest.raises(InternalError, match="no valid answer"):
        ask({})
    program.write_text("raise LookupError")
    with pytest.raises(InternalError, match="failed"):
        ask({})


@pytest.mark.parametrize("wrong", ["'width': -1", "'fps': float('nan')", "'used_frames': 2"])
def test_a_number_out_of_range_is_our_fault(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = "'width': 1, 'height': 1, 'source_frames': 1, 'used_frames': 1, 'fps': 1"
    (tmp_path / "clip.zip").write_bytes(frames_zip())
    program = tmp_path / "program.py"
    program.write_text(f"import json; print(json.dumps({{'found': {{{sound}, {wrong}}}}}))")
    monkeypatch.setattr("intake.child._PROGRAM", str(program))
    with pytest.raises(InternalError, match="no valid answer"):
        inspect(tmp_path / "clip.zip")


def test_the_program_finds_the_packages_that_this_process_has(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", symlinks=True)
    (tmp_path / "mesh.glb").write_bytes(glb())
    check = "import sys, intake.glb, pathlib; intake.glb.check_glb(pathlib.Path(sys.argv[1]))"
    subprocess.run(
        [tmp_path / "bare" / "bin" / "python", "-c", check, tmp_path / "mesh.glb"],
        cwd=ROOT,
        env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
    )


def test_the_api_process_loads_no_reader_of_strangers_files() -> None:
    code = "import main, sys; main.app; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    readers = {"video.zip_reader", "video.pictures", "video.frames_zip", "video.probe"}
    assert not readers & set(loaded)
