"""Measures the cost of a job's output files: `python -m benchmarks.export` prints Markdown tables.

CPU seconds of this process and its children (ffmpeg, workers), not wall time: the machine may be
shared. Only the preview on several cores is timed, beside the same on one, in turns.
The mesh is the tests' procedural animal, with as many vertices as a real one.
"""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.archive import write_archive
from meshes.gltf import write_animated, write_frames
from meshes.normals import vertex_normals
from meshes.preview import write_preview, write_source_video
from tests.meshes.walking_animal import walking_animal
from video.cores import in_order, use_cores

SIZES = ((16, 101), (31, 142))
"""Timesteps, and rings of the sphere: 10k vertices and 20k faces, 20k vertices and 40k faces."""


def main() -> None:
    """Measure and print."""
    cv2.setNumThreads(1)  # as in the process that runs jobs
    print("| timesteps | vertices | faces | step | CPU s | size MB |")
    print("|---|---|---|---|---|---|")
    for timesteps, rings in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            _measure(timesteps, rings, Path(folder))
    print()
    print("| preview, 31 timesteps of 39480 faces | seconds | CPU s | times as fast as one core |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        _compare_cores(Path(folder))


def _compare_cores(folder: Path, rounds: int = 3) -> None:
    """One core and all, in turns; the medians."""
    sequence, frames = walking_animal(*SIZES[1]), _noise(SIZES[1][0])
    normals = vertex_normals(sequence)
    everywhere = os.sched_getaffinity(0)
    took: dict[int, list[tuple[float, float]]] = {1: [], len(everywhere): []}
    for _ in range(rounds):
        for cores, times in took.items():
            os.sched_setaffinity(0, everywhere if cores > 1 else {min(everywhere)})
            use_cores(cores)
            began, before = time.perf_counter(), _cpu_s()
            out = folder / "preview.mp4", folder / "poster.webp"
            write_preview(sequence, normals, frames, *out, in_order=in_order)
            times.append((time.perf_counter() - began, _cpu_s() - before))
    os.sched_setaffinity(0, everywhere)
    for cores, times in took.items():
        wall_s, cpu_s = (float(np.median(column)) for column in zip(*times, strict=True))
        faster = float(
            np.median([one[0] / many[0] for one, many in zip(took[1], times, strict=True)])
        )
        print(f"| {cores} cores | {wall_s:.2f} | {cpu_s:.2f} | {faster:.2f} |")


def _noise(count: int) -> NDArray[np.uint8]:
    """Frames of 1280 x 720, blocks of random colours."""
    frames = np.random.default_rng(0).integers(0, 255, (count, 45, 80, 3)).astype(np.uint8)
    return frames.repeat(16, axis=1).repeat(16, axis=2)


def _measure(timesteps: int, rings: int, folder: Path) -> None:
    sequence = walking_animal(timesteps, rings)
    frames = _noise(timesteps)
    normals = vertex_normals(sequence)
    paths = [folder / f"mesh_{k:03d}.glb" for k in range(timesteps)]
    animated, archive = folder / "animated_mesh.glb", folder / "meshes.zip"
    source, video, poster = folder / "source.mp4", folder / "preview.mp4", folder / "poster.webp"
    meshes = {
        "normals": (lambda: vertex_normals(sequence), []),
        "GLB a timestep": (lambda: write_frames(sequence, normals, folder), paths),
        "animated GLB": (lambda: write_animated(sequence, normals, animated), [animated]),
        "zip": (lambda: write_archive(paths, archive), [archive]),
    }
    videos = {
        "source.mp4, 1280 x 720": (lambda: write_source_video(frames, 8, source), [source]),
        "preview.mp4 and poster": (
            lambda: write_preview(sequence, normals, frames, video, poster),
            [video, poster],
        ),
    }
    size = f"{timesteps} | {sequence.vertices.shape[1]} | {len(sequence.faces)}"
    total = 0.0
    for step, (work, files) in meshes.items():
        total += _row(size, step, work, files)
    print(f"| {size} | **all mesh files** | **{total:.2f}** | |")
    for step, (work, files) in videos.items():
        spent = _row(size, step, work, files)
    print(f"| {size} | preview, each timestep | {spent / timesteps:.3f} | |")


def _row(size: str, step: str, work: Callable[[], object], files: list[Path]) -> float:
    """Print one line of the table and give its CPU seconds."""
    before = _cpu_s()
    work()
    spent = _cpu_s() - before
    written = sum(file.stat().st_size for file in files) / 1e6
    print(f"| {size} | {step} | {spent:.2f} | {f'{written:.2f}' if files else ''} |")
    return spent


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


if __name__ == "__main__":
    main()
