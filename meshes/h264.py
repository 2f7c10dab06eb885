"""Encodes pictures as H.264 in mp4 with the ffmpeg of imageio-ffmpeg, in its own process.

The raw frames are in an unlinked temporary file that is ffmpeg's standard input: no pipe that could
deadlock, and no file is left if a process is killed. Called by preview.py.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

from meshes.atomic_file import atomic_file
from meshes.external_tools import LOG_CHARACTERS, Launch, ToolFailed

_TO_BT709 = (
    "scale=in_range=pc:out_range=tv:out_color_matrix=bt709:flags=accurate_rnd+full_chroma_int,"
    "format=yuv420p,"
    "setparams=color_primaries=bt709:color_trc=bt709:colorspace=bt709:range=tv"
)


def encode_h264(
    pictures: Iterable[NDArray[np.uint8]],
    size: tuple[int, int],
    fps: float,
    path: Path,
    options: Sequence[str],
    launch: Launch,
    timeout_s: float,
) -> None:
    """Write RGB pictures uint8 `(H, W, 3)` as an mp4 that can play before it is fully loaded.

    `size` is (W, H), both even; `options` are further ffmpeg options, such as the quality. Picture
    k is shown at k / fps seconds. Raises ToolFailed; then `path` does not exist.
    """
    width, height = size
    if width % 2 or height % 2:
        raise ValueError(f"H.264 needs even sizes, not {width} x {height}")
    with (
        tempfile.TemporaryFile(dir=path.parent) as raw,
        tempfile.TemporaryFile(dir=path.parent) as log,
        atomic_file(path) as part,
    ):
        for picture in pictures:
            if picture.shape != (height, width, 3) or picture.dtype != np.uint8:
                raise ValueError(f"not an RGB picture of {width} x {height}: {picture.shape}")
            raw.write(np.ascontiguousarray(picture).data)
        raw.seek(0)
        command = _command(size, fps, options, part)
        try:
            process = launch(command, stdin=raw, stdout=subprocess.DEVNULL, stderr=log)
        except (OSError, subprocess.SubprocessError) as exc:
            raise ToolFailed("ffmpeg could not be started") from exc
        code = _wait(process, timeout_s)
        if code != 0 or not part.exists():
            log.seek(max(0, log.seek(0, 2) - 4 * LOG_CHARACTERS))
            raise ToolFailed(f"ffmpeg failed ({code})", log.read().decode(errors="replace"))


def _command(size: tuple[int, int], fps: float, options: Sequence[str], part: Path) -> list[str]:
    rate = Fraction(fps).limit_denominator(100_000)  # 30000/1001 and similar rates stay exact
    return [
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "error"),
        *("-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{size[0]}x{size[1]}"),
        *("-framerate", f"{rate.numerator}/{rate.denominator}", "-i", "pipe:0", "-an"),
        *("-vf", _TO_BT709, "-c:v", "libx264", "-profile:v", "high", "-threads", "2"),
        *options,
        *("-movflags", "+faststart", "-map_metadata", "-1", "-fflags", "+bitexact"),
        *("-f", "mp4", "-y", str(part)),
    ]


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> int:
    """The exit status. A process that takes too long, or whose caller gives up, is killed."""
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired as exc:
        raise ToolFailed(f"ffmpeg did not finish in {timeout_s:g} s") from exc
    finally:
        process.kill()  # does nothing to a process that has ended
        process.wait()
