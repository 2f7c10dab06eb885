"""Measures jobs of 31 to 121 frames on a real server: `python -m benchmarks.long_clips`.

Prints a Markdown table. Clips with alpha from TEST_MEDIA, forth and back as often as needed, so
that clips of all lengths show the same; and a pipeline whose mesh has 40,000 faces and no colours,
as ActionMesh's has. CPU seconds are those of the child and its programs. Wall
time counts on an idle machine only.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.truth import load_truth
from tests.appearance.animal_video import FPS, camera, packed
from tests.appearance.drawn_clip import drawn_clip
from tests.meshes.walking_animal import walking_animal
from tests.servers import ProcessServer, process_server
from tests.silhouette.measure import load_sample, media_folder

COUNTS = (31, 90, 121)
SILHOUETTE = ("davis_camel alpha", "robot_dance")
MANY_FACES = "tests.pipelines:WalksInManyFaces"
MAX_RSS_MB, MAX_WALL_S, MAX_LOSS = 1200, 0.8, 0.02
_TICKS = os.sysconf("SC_CLK_TCK")

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class _Measured:
    """One job: means of IoU, seconds, megabytes."""

    frames: int
    outline: float
    worst: float
    wall_s: float
    cpu_s: float
    rss_mb: float
    api_mb: float
    output_mb: float


def main() -> None:
    """Print one row for each clip and length."""
    print("| clip | frames | outline | worst | wall s | a frame | CPU s | peak MB | API grew MB "
          "| files MB | |\n|---|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name in SILHOUETTE:
        _rows(name, "silhouette", _clip(name))
    seen = walking_animal(16, 142, "coloured", FPS)
    _rows("animal, 40,000 faces", MANY_FACES, drawn_clip(seen, camera(16, 1024)).frames)


def _clip(name: str) -> Frames:
    media = media_folder()
    return (
        load_sample(media, name).clip.frames if " " in name else load_truth(media, name).clip.frames
    )


def _rows(name: str, pipeline: str, frames: Frames) -> None:
    usual = None
    for count in COUNTS:
        there_and_back = [*range(len(frames)), *range(len(frames) - 2, 0, -1)]
        chosen = [there_and_back[k % len(there_and_back)] for k in range(count)]
        found = _measure(pipeline, packed(frames[chosen]), count)
        usual = usual or found
        met = (
            found.frames == count
            and found.outline >= usual.outline - MAX_LOSS
            and found.wall_s <= MAX_WALL_S * count
            and found.rss_mb <= MAX_RSS_MB
        )
        print(
            f"| {name} | {found.frames} | {found.outline:.3f} | {found.worst:.3f} "
            f"| {found.wall_s:.1f} | {found.wall_s / count:.2f} | {found.cpu_s:.1f} "
            f"| {found.rss_mb:.0f} | {found.api_mb:.0f} | {found.output_mb:.0f} "
            f"| {'pass' if met else 'MISS'} |",
            flush=True,
        )


def _measure(pipeline: str, content: bytes, count: int) -> _Measured:
    with (
        tempfile.TemporaryDirectory(prefix="long-") as folder,
        process_server(Path(folder), PIPELINE=pipeline) as server,
    ):
        before = _status_mb(server.process.pid, "VmRSS")
        form = {"max_frames": str(count), "formats": "npz"}
        sent = httpx.post(f"{server.url}/jobs", data=form, files={"file": ("c.zip", content)})
        job = _finished(server, sent.raise_for_status().json()["job_id"])
        (child,) = _children(server.process.pid)
        return _Measured(
            job["mesh"]["timesteps"],
            job["score"]["outline_mean"],
            job["score"]["outline_worst"],
            job["timings"]["total"] - job["timings"]["queued"],
            _cpu_s(child),
            _status_mb(child, "VmHWM"),
            _status_mb(server.process.pid, "VmHWM") - before,
            sum(file["bytes"] for file in job["files"]) / 1e6,
        )


def _finished(server: ProcessServer, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline:
        answer = httpx.get(f"{server.url}/jobs/{job_id}", params={"wait": 30}, timeout=60)
        job: dict[str, Any] = answer.raise_for_status().json()
        if job["status"] == "finished":
            return job
        assert job["status"] in ("queued", "running"), job
    raise AssertionError("the job takes too long")


def _children(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


def _status_mb(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise AssertionError(field)


def _cpu_s(pid: int) -> float:
    """Of the process and those that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


if __name__ == "__main__":
    main()
