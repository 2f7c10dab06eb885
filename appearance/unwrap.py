"""Lays a mesh's surface out flat for a texture, with xatlas, in a process of its own.

xatlas is native code that cannot be interrupted, takes seconds and may fail on an odd mesh: the
process can be killed, and its end is never the job's. xatlas_script.py runs in it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from appearance.xatlas_script import NO_XATLAS
from meshes.external_tools import LOG_CHARACTERS, Launch, ToolFailed
from video.sandbox import ENVIRONMENT, Limits

LIMITS = Limits(memory_mb=8192, cpu_s=240, file_mb=256)
"""For the process: `partial(launch, limits=LIMITS)`. 125,000 faces took 180 MB and 6 s of CPU."""
POLL_S = 0.1
"""How often `while_waiting` is called and the time limit is checked."""

_SIZE = 32.0
"""Of the mesh that xatlas gets. It leaves out faces with areas below 1e-7, which fine meshes have
at size 1, makes nothing of use of a very small mesh, and runs for minutes on a very large one."""
_TIMEOUT_S = 120.0
_SCRIPT = Path(__file__).with_name("xatlas_script.py")
# threads of malloc and BLAS reserve much of the address space on machines with many cores
_ENVIRONMENT = {**ENVIRONMENT, "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"}
_LARGEST_LOG_BYTES = 4 * LOG_CHARACTERS


@dataclass(frozen=True)
class Unwrapped:
    """Vertices with texture coordinates: those of the mesh, repeated where charts end.

    New vertex k is the mesh's vertex `vertex_map[k]`, int32 `(W,)`; `faces` int32 `(F, 3)` are of
    new vertices, in the mesh's order; `uv` float32 `(W, 2)` has (0, 0) at the upper left corner.
    A vertex without faces is not among the new ones. All corners of a face without area lie at one
    point of the texture.
    """

    vertex_map: NDArray[np.int32]
    faces: NDArray[np.int32]
    uv: NDArray[np.float32]


def unwrap(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    size_px: int,
    launch: Launch,
    while_waiting: Callable[[], None],
    timeout_s: float = _TIMEOUT_S,
) -> Unwrapped:
    """Texture coordinates of vertices `(V, 3)`, for a square texture of `size_px`.

    `while_waiting` is called ten times a second; what it raises ends the process and reaches the
    caller. Raises ToolFailed. No process and no file is left in any case.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as found:
        np.save(given, _of_size(_SIZE, vertices))
        np.save(given, faces)
        given.seek(0)
        _run(size_px, given, found, launch, while_waiting, timeout_s)
        found.seek(0)
        try:
            vertex_map, new_faces, uv, charts = (np.load(found) for _ in range(4))
        except (ValueError, EOFError, OSError) as exc:
            raise ToolFailed("xatlas gave no readable arrays") from exc
    if new_faces.shape != faces.shape or not (vertex_map[new_faces] == faces).all():
        raise ToolFailed("xatlas gave other faces than the mesh has")
    if not np.isfinite(uv).all() or uv.min() < 0 or uv.max() > 1 or (charts < 0).all():
        raise ToolFailed("xatlas gave no usable texture coordinates")
    return Unwrapped(vertex_map, new_faces, _all_in_charts(vertex_map, new_faces, uv, charts))


def _of_size(size: float, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mesh around the origin, with this largest side."""
    low, high = vertices.min(axis=0).astype(float), vertices.max(axis=0).astype(float)
    side = float((high - low).max()) or 1.0
    return np.asarray((vertices - (low + high) / 2) * (size / side), np.float32)


def _all_in_charts(
    vertex_map: NDArray[np.int32],
    faces: NDArray[np.int32],
    uv: NDArray[np.float32],
    charts: NDArray[np.int32],
) -> NDArray[np.float32]:
    """The uv, with faces that are in no chart (without area) put at a neighbour's point.

    Those that share vertices go to the same one, or they would be drawn across the texture.
    """
    point = np.full(vertex_map.max() + 1, -1)
    inside = np.flatnonzero(charts >= 0)
    point[vertex_map[inside]] = inside
    outside = faces[(charts[faces] < 0).any(axis=1)]
    edges = outside[:, [0, 1, 1, 2]].reshape(-1, 2).T
    joined = coo_array((np.ones(edges.shape[1]), edges), shape=(len(uv), len(uv)))
    count, groups = connected_components(joined, directed=False)
    neighbours = np.full(count, -1)
    np.maximum.at(neighbours, groups[outside], point[vertex_map[outside]])
    neighbours[neighbours < 0] = inside[0]
    uv = uv.copy()
    uv[outside] = uv[neighbours[groups[outside]]]
    return uv


def _run(
    size_px: int,
    given: IO[Any],
    found: IO[Any],
    launch: Launch,
    while_waiting: Callable[[], None],
    timeout_s: float,
) -> None:
    command = [sys.executable, "-I", str(_SCRIPT), str(size_px)]
    with tempfile.TemporaryFile() as log:
        try:
            process = launch(command, stdin=given, stdout=found, stderr=log, env=_ENVIRONMENT)
        except (OSError, subprocess.SubprocessError) as exc:
            raise ToolFailed("xatlas could not be started") from exc
        try:
            code = _wait(process, timeout_s, while_waiting)
        finally:
            process.kill()  # does nothing to a process that has ended
            process.wait()
        log.seek(max(0, log.seek(0, 2) - _LARGEST_LOG_BYTES))
        output = log.read().decode(errors="replace")
    if code == NO_XATLAS:
        raise ToolFailed("a texture needs the package xatlas, which this server does not have")
    if code != 0:
        raise ToolFailed(f"xatlas failed ({code})", output)


def _wait(
    process: subprocess.Popen[bytes], timeout_s: float, while_waiting: Callable[[], None]
) -> int:
    """The exit status."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return process.wait(POLL_S)
        except subprocess.TimeoutExpired:
            while_waiting()
            if time.monotonic() > deadline:
                raise ToolFailed(f"xatlas did not finish in {timeout_s:g} s") from None
