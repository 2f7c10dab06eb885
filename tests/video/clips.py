"""Small clips with the frame number in every frame, so that a test knows which frame it got.

Frame N shows N in binary: eight bars, each white or black, which any codec and scaling keep.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from video.sandbox import ffmpeg_path

LOSSLESS = ("-c:v", "ffv1")
H264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "12", "-pix_fmt", "yuv420p")
OPEN_GOP = (*H264, "-g", "12", "-bf", "3")


def ffmpeg(*args: str) -> None:
    """Run the bundled ffmpeg, or fail with its stderr."""
    command = [ffmpeg_path(), "-hide_banner", "-loglevel", "error", "-y", *args]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def numbered(
    path: Path,
    frames: int,
    *output: str,
    rate: float | str = 24,
    size: tuple[int, int] = (128, 64),
    filters: str = "null",
) -> Path:
    """Write a clip of `frames` numbered frames; `output` are ffmpeg's output arguments."""
    width, height = size
    # geq is slow: it paints one row of bars, and scaling makes the rest
    bars = "255*mod(floor(N/pow(2,X)),2)"
    source = f"nullsrc=s=8x2:r={rate}:d=1000000,format=yuv444p,geq=lum='{bars}':cb=128:cr=128"
    source += f",scale={width}:{height}:flags=neighbor,setsar=1,{filters}"
    ffmpeg("-f", "lavfi", "-i", source, "-frames:v", str(frames), *(output or H264), str(path))
    return path


def numbers(frames: NDArray[np.uint8]) -> list[int]:
    """Which frames these are: uint8 `(T, H, W, 3|4)` to T numbers."""
    height, width = frames.shape[1:3]
    found = []
    for frame in frames[..., :3].mean(axis=3):
        bars = [
            frame[
                height // 4 : 3 * height // 4,
                int((bit + 0.3) * width / 8) : int((bit + 0.7) * width / 8),
            ]
            for bit in range(8)
        ]
        found.append(sum((bar.mean() > 127) << bit for bit, bar in enumerate(bars)))
    return [int(number) for number in found]


def pictures(folder: Path, frames: int, suffix: str = "png", **options: Any) -> list[bytes]:
    """The same frames as separate files' contents."""
    folder.mkdir(parents=True, exist_ok=True)
    quality = {
        "png": ("-c:v", "png"),
        "jpg": ("-q:v", "2"),
        "webp": ("-c:v", "libwebp", "-lossless", "1"),
    }
    numbered(folder / f"%03d.{suffix}", frames, *quality[suffix], **options)
    return [path.read_bytes() for path in sorted(folder.glob(f"*.{suffix}"))]
