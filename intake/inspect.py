"""Checks before a job is queued that the uploaded file is a clip that a job can use.

Blocks while ffmpeg works on it (about a second), so the API calls it in a thread. Leaves no process
in any case: each ends with this call, or with the thread that made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from intake.container import HEAD_BYTES, sniff
from video.ffmpeg import Container
from video.probe import probe
from video.sampling import MAX_FRAMES


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
    path: Path,
    start: float = 0.0,
    fps: float | None = None,
    max_frames: int = MAX_FRAMES,
    *,
    filename: str = "input",
) -> ClipFacts:
    """Raises UnsupportedMediaType, VideoUnreadable, VideoTooShort."""
    with open(path, "rb") as file:
        container = sniff(file.read(HEAD_BYTES))
    found = probe(path, container, start, fps, max_frames)
    source = found.source
    return ClipFacts(
        filename=filename,
        bytes=path.stat().st_size,
        container=container,
        width=source.width,
        height=source.height,
        source_fps=source.fps,
        source_frames=source.frames,
        used_frames=len(source.used),
        fps=found.fps,
    )
