"""A video in which nothing moves at first; later a red block walks through the picture."""

from __future__ import annotations

from pathlib import Path

from tests.video.clips import ffmpeg

_WALL = (
    "cellauto=s=320x180:rule=110:r=30:random_seed=7,select='eq(n,150)',loop=-1:1,setpts=N/30/TB,"
    "gblur=1.5,format=yuv420p"
)


def late_subject(
    path: Path, enters_s: float, leaves_s: float, length_s: float, wall: str = _WALL
) -> Path:
    """The block needs seven seconds from left to right."""
    seen = f"between(t,{enters_s},{leaves_s})"
    across = f"overlay=x='if({seen},(t-{enters_s})*40,-200)':y=60:shortest=1"
    ffmpeg("-f", "lavfi", "-i", wall, "-f", "lavfi", "-i", "color=0xC04020:s=40x80:r=30",
           "-filter_complex", f"[0][1]{across}", "-t", str(length_s), "-c:v", "libx264",
           "-preset", "ultrafast", str(path))  # fmt: skip
    return path


def panned(length_s: float) -> str:
    """The same wall, over which the camera pans all the time."""
    return f"{_WALL.replace('320x180', '960x180')},crop=320:180:x='n*600/({length_s}*30)':y=0"
