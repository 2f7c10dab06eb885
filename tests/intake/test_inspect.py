"""The API's check of an uploaded file before it becomes a job, also with hostile files."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from errors import UserFault, VideoTooShort, VideoUnreadable
from intake.inspect import ClipFacts, inspect
from tests.hostile_media import hostile_files
from tests.video.clips import H264, ffmpeg, numbered
from video.sampling import FrameRequest

MEDIA = os.environ.get("TEST_MEDIA", "")


def hostile() -> list[Any]:
    if not MEDIA:
        return [pytest.param({}, marks=pytest.mark.skip(reason="TEST_MEDIA is not set"))]
    return [pytest.param(case, id=case["file"]) for case in hostile_files(Path(MEDIA))]


def test_facts_of_a_clip(tmp_path: Path) -> None:
    path = numbered(tmp_path / "input", 48, *H264, "-f", "mp4", size=(160, 90))
    assert inspect(path) == ClipFacts(
        filename="input",
        bytes=path.stat().st_size,
        container="mov",
        width=160,
        height=90,
        source_fps=24.0,
        source_frames=48,
        used_frames=31,
        fps=24.0,
    )
    assert inspect(path, FrameRequest(fps=8)).used_frames == 16


@pytest.mark.usefixtures("collected_garbage")
@pytest.mark.parametrize("case", hostile())
def test_hostile_files_get_the_right_error(case: dict[str, Any]) -> None:
    path = Path(MEDIA) / "hostile" / case["file"]
    before = len(os.listdir("/dev/fd"))
    try:
        inspect(path)
        status = 202
    except UserFault as error:
        status = error.status
        told = f"{error.message} {error.hint} {error.facts}"
        assert str(path.parent) not in told and "ffmpeg" not in told.lower() and "0x" not in told
    assert len(os.listdir("/dev/fd")) == before
    if case["expect"] == "accept":
        assert status == 202
    if case["expect"] == "reject":
        assert status in case["status"]


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nneighbour.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile neighbour.mp4\n",
    ],
)
@pytest.mark.parametrize("head", [b"", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", b"\0\0\0\x08free"])
def test_a_playlist_never_reads_another_file(head: bytes, text: str, tmp_path: Path) -> None:
    numbered(tmp_path / "neighbour.mp4", 20)
    path = tmp_path / "input"
    path.write_bytes(head + text.encode())
    with pytest.raises(UserFault):
        inspect(path)


def test_a_truncated_clip_is_checked_by_the_frames_that_are_left(tmp_path: Path) -> None:
    codec = ("-c:v", "mjpeg", "-q:v", "2")
    whole = numbered(tmp_path / "whole.avi", 60, *codec, size=(640, 320)).read_bytes()
    half = tmp_path / "half"
    half.write_bytes(whole[: len(whole) // 2])
    assert 20 <= inspect(half).source_frames <= 30
    half.write_bytes(whole[: len(whole) // 5])
    with pytest.raises(VideoTooShort):
        inspect(half)


def test_a_clip_without_its_end_is_damaged_and_a_song_has_no_video(tmp_path: Path) -> None:
    whole = numbered(tmp_path / "whole.mp4", 20).read_bytes()  # its index is at the end
    (tmp_path / "cut").write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(VideoUnreadable, match="damaged or incomplete"):
        inspect(tmp_path / "cut")
    ffmpeg("-f", "lavfi", "-i", "sine=d=1", "-c:a", "aac", str(tmp_path / "song.mp4"))
    with pytest.raises(VideoUnreadable, match="no video"):
        inspect(tmp_path / "song.mp4")


ASK = """
import sys
from pathlib import Path
from intake.inspect import inspect
print(1, flush=True)
while True:
    inspect(Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PDEATHSIG and /proc are Linux's")
def test_a_server_killed_during_inspect_leaves_no_process(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.mp4", 64, size=(1280, 720))
    asking = subprocess.Popen(
        [sys.executable, "-c", ASK, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert asking.stdout is not None
    with asking.stdout:
        asking.stdout.readline()
    time.sleep(0.4)
    asking.kill()
    asking.wait()
    deadline = time.monotonic() + 5
    while (left := in_session(asking.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def in_session(session: int) -> list[str]:
    """Command names of living processes in a session, from /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")  # 7 (name) S 1 7 7
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, _, of = rest.split()[:4]
        if int(of) == session and state != "Z":
            found.append(name)
    return found
