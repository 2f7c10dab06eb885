"""Measures fit_skin: `python -m benchmarks.skinning [word ...]` prints a Markdown table.

One row a process, on one core: bones, error, CPU seconds, memory that the solver adds, and the
longest time between two reports of progress, after which a job can be cancelled. Words choose rows
by parts of their names. Rows with the fox and the robot need TEST_MEDIA.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from benchmarks.quality_case import dancing_sprout
from benchmarks.truth import generated, load_truth
from meshes.skinning import fit_skin
from tests.meshes.bending_tube import bending_tube
from tests.meshes.walking_animal import walking_animal
from tests.silhouette.measure import load_sample, media_folder, run_one

Vertices = NDArray[np.float32]

HEADER = """\
| meshes | timesteps | vertices | bones | rms % | 99 % below % | largest % | | CPU s | adds MB \
| longest silence s |
|---|---|---|---|---|---|---|---|---|---|---|"""
CLIPS = ("fox_run", "fox_walk", "robot_dance", "robot_walk", "robot_wave")


def cases() -> dict[str, Callable[[], Vertices]]:
    """What makes the vertices of each row, by its name."""
    rows: dict[str, Callable[[], Vertices]] = {
        "tube of two bones": lambda: bending_tube(31)[0].vertices,
        "animal": lambda: walking_animal(31, 100).vertices,
        "animal, 40k faces": lambda: walking_animal(31, 142).vertices,
        "animal, 80k faces, 121": lambda: walking_animal(121, 200).vertices,
        "sprout": sprout,
        "sprout, 121": lambda: longer(sprout(), 121),
        "sprout, noise of .1 %": lambda: with_noise(sprout(), 0.001),
        "sprout, noise of .3 %": lambda: with_noise(sprout(), 0.003),
        "ripple": lambda: ripple(sprout()),
        "ripple, 40k faces": lambda: ripple(walking_animal(31, 142).vertices),
    }
    if "TEST_MEDIA" not in os.environ:
        return rows
    for clip in CLIPS:
        rows[clip] = partial(truth, clip)
        rows[f"{clip}, 36k faces or more, 31"] = partial(truth, clip, 0.0, 31)
        rows[f"{clip}, as generated"] = partial(truth, clip, 0.015)
    rows["fox_run, 31k faces, 121"] = partial(truth, "fox_run", 0.0, 121)
    for clip in ("davis_camel alpha 31", "kangaroo alpha 31"):
        rows[f"{clip}, silhouette"] = partial(silhouette, clip)
    return rows


def sprout() -> Vertices:
    """The demo's meshes."""
    return dancing_sprout()[1].vertices


def truth(clip: str, noise: float | None = None, timesteps: int = 16) -> Vertices:
    """A clip's true meshes, or finer and wrong by `noise` as a generator would make them."""
    meshes = load_truth(media_folder(), clip).meshes
    meshes = meshes if noise is None else generated(meshes, noise)
    return longer(meshes.vertices, timesteps)


def silhouette(clip: str) -> Vertices:
    """What the CPU pipeline makes of a clip."""
    return run_one(load_sample(media_folder(), clip), "default")[0].vertices


def longer(vertices: Vertices, timesteps: int) -> Vertices:
    """The same motion in more timesteps."""
    if timesteps == len(vertices):
        return vertices
    path = CubicSpline(np.arange(len(vertices)), vertices, axis=0)
    return np.asarray(path(np.linspace(0, len(vertices) - 1, timesteps)), np.float32)


def with_noise(vertices: Vertices, share: float) -> Vertices:
    """Noise at each vertex and timestep: a standard deviation of that share of the diagonal."""
    size = share * np.linalg.norm(np.ptp(vertices[0], axis=0))
    noise = np.random.default_rng(0).normal(size=vertices.shape) * size
    return np.asarray(vertices + noise, np.float32)


def ripple(vertices: Vertices) -> Vertices:
    """The first mesh with short waves that run over it and back: no 60 bones move like that.

    Waves of one speed would be sums of two motions, which few bones make.
    """
    moved = vertices[:1].repeat(len(vertices), axis=0)
    phase = 9 * np.sin(np.arange(len(vertices)) / len(vertices) * 2 * np.pi)
    moved[..., 1] += 0.2 * np.sin(60 * vertices[0, :, 0] - phase[:, None])
    moved[..., 2] += 0.2 * np.sin(60 * vertices[0, :, 1] + 2 * phase[:, None])
    return moved


def row(name: str) -> str:
    """One line of the table."""
    vertices = cases()[name]()
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before, began = _memory_mb("VmRSS:"), time.process_time()
    told = [began]
    found = fit_skin(vertices, lambda _: told.append(time.process_time()))
    ended = time.process_time()
    verdict = "exact" if found.is_exact else "usable" if found.is_usable else "not usable"
    return (
        f"| {name} | {len(vertices)} | {vertices.shape[1]} | {len(found.skin.parents)} "
        f"| {100 * found.rms:.3f} | {100 * found.p99:.2f} | {100 * found.largest:.2f} | {verdict} "
        f"| {ended - began:.1f} | {_memory_mb('VmHWM:') - before:.0f} "
        f"| {np.diff([*told, ended]).max():.2f} |"
    )


def _memory_mb(field: str) -> float:
    """Of this process, in MB: VmRSS is now, VmHWM the peak."""
    return int(Path("/proc/self/status").read_text().partition(field)[2].split()[0]) / 1024


def main(words: list[str]) -> None:
    """Print the table, one process per row."""
    print(HEADER, flush=True)
    one_core = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for name in cases():
        if all(word in name for word in words):
            command = [sys.executable, "-m", "benchmarks.skinning", "--row", name]
            subprocess.run(command, check=True, env={**os.environ, **one_core})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        print(row(sys.argv[2]), flush=True)
    else:
        main(sys.argv[1:])
