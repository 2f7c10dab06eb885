"""Measures probe and decode: `python -m benchmarks.decode [clip ...]`.

Without arguments it makes clips (noise over a test pattern, about the bit rate of a phone) in a
temporary folder. Prints a Markdown table: CPU seconds of this process and of ffmpeg together.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from intake.inspect import inspect
from video.frames import read_clip
from video.sandbox import ffmpeg_path

_MADE = {
    "1080p, 30 fps, 10 s": ("1920x1080", 30, 10, "13M"),
    "1080p, 60 fps, 10 s": ("1920x1080", 60, 10, "20M"),
    "2160p, 30 fps, 3 s": ("3840x2160", 30, 3, "40M"),
    "720p, 24 fps, 4 s": ("1280x720", 24, 4, "6M"),
}


@dataclass(frozen=True)
class Measurements:
    """CPU seconds, and the frames used."""

    probe_s: float
    read_s: float
    frames: int


def measure(path: Path) -> Measurements:
    """Probe like the API, then decode like a job."""
    begin = _cpu_s()
    facts = inspect(path)
    probed = _cpu_s()
    clip, _ = read_clip(path, facts.container)
    return Measurements(probed - begin, _cpu_s() - probed, len(clip))


def make(path: Path, size: str, fps: int, seconds: int, bit_rate: str) -> None:
    """An H.264 clip with a key frame every two seconds."""
    source = f"testsrc2=s={size}:r={fps}:d={seconds},noise=alls=4:allf=t"
    subprocess.run(
        [
            *(ffmpeg_path(), "-loglevel", "error", "-f", "lavfi", "-i", source),
            *("-c:v", "libx264", "-preset", "veryfast", "-b:v", bit_rate, "-maxrate", bit_rate),
            *("-bufsize", bit_rate, "-g", str(2 * fps), "-pix_fmt", "yuv420p", str(path)),
        ],
        stdin=subprocess.DEVNULL,
        check=True,
    )


def _cpu_s() -> float:
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, both))


def report(clips: dict[str, Path], prepare: Callable[[str], None]) -> None:
    """Print the table, row by row."""
    print("| clip | probe, CPU s | decode, CPU s | frames |")
    print("|---|---|---|---|")
    for name, path in clips.items():
        prepare(name)
        found = measure(path)
        row = f"| {name} | {found.probe_s:.2f} | {found.read_s:.2f} | {found.frames} |"
        print(row, flush=True)


def main() -> None:
    """Measure the clips named on the command line, or our own."""
    if sys.argv[1:]:
        report({Path(name).name: Path(name) for name in sys.argv[1:]}, lambda _: None)
        return
    with tempfile.TemporaryDirectory() as folder:
        clips = {name: Path(folder) / f"{index}.mp4" for index, name in enumerate(_MADE)}
        report(clips, lambda name: make(clips[name], *_MADE[name]))


if __name__ == "__main__":
    main()
