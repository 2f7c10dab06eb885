"""Checks before a job is queued that the uploaded file is a clip that a job can use.

This process reads the first bytes only; video/probe.py reads the rest in the program that child.py
runs. Blocks meanwhile (about a second), so the API calls it in a thread. Leaves no process in any
case: each ends with this call, or with the thread that made it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from errors import VideoUnreadable
from intake.child import FileTooHard, ask, number
from intake.container import HEAD_BYTES, sniff
from video.ffmpeg import Container
from video.sampling import DEFAULT_REQUEST, FrameRequest
from video.sizes import MAX_PIXELS


@dataclass(frozen=True)
class ClipFacts:
    """A clip as it arrived. `filename` is the client's, cleaned, and used only to show it.

    `source_fps` is None for a zip; `fps` is the rate at which the `used_frames` will play.
    """

    filename: str
    bytes: int
    container: Container
    width: int
    height: int
    source_fps: float | None
    source_frames: int
    used_frames: int
    fps: float


def inspect(
    path: Path, request: FrameRequest = DEFAULT_REQUEST, *, filename: str = "input"
) -> ClipFacts:
    """Raises UnsupportedMediaType, VideoUnreadable, VideoTooShort."""
    with open(path, "rb") as file:
        container = sniff(file.read(HEAD_BYTES))
    question = {"read": "clip", "path": str(path), "container": container}
    try:
        found = ask({**question, "frames": asdict(request)})
    except FileTooHard as exc:
        raise VideoUnreadable(
            "Reading the clip takes more memory or time than is allowed.",
            hint="Send a smaller clip: fewer pixels, or fewer frames.",
        ) from exc
    frames = int(number(found, "source_frames", 1, 1 << 31))
    source_fps = found.get("source_fps")
    return ClipFacts(
        filename=filename,
        bytes=path.stat().st_size,
        container=container,
        width=int(number(found, "width", 1, MAX_PIXELS)),
        height=int(number(found, "height", 1, MAX_PIXELS)),
        source_fps=None if source_fps is None else number(found, "source_fps", 0, 1e6),
        source_frames=frames,
        used_frames=int(number(found, "used_frames", 1, frames)),
        fps=number(found, "fps", 0, 1000),
    )
