"""Writes preview.mp4 (input | same view | three-quarter view), its poster, and source.mp4.

The second panel is the mesh as the video shows it, or its front where there is no perspective view.
The 3-D views come from a renderer that the caller passes; the default traces rays on the CPU. A
failure raises ToolFailed; the meshes are not affected. Called by child/exports.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.atomic_file import atomic_file
from meshes.camera import Camera, ViewDirection, fit_cameras, video_camera
from meshes.external_tools import Launch, ToolFailed
from meshes.h264 import encode_h264
from meshes.in_order import InOrder
from meshes.preview_background import Picture, input_panels, input_window
from meshes.sequence import MeshSequence
from meshes.view import View

VIEWS = (
    ViewDirection(azimuth_deg=0, elevation_deg=8),
    ViewDirection(azimuth_deg=38, elevation_deg=14),
)
"""From the front, and a three-quarter view from the subject's left and above."""
PANEL_PX = 512
LARGEST_SOURCE_PX = 1280

_SOURCE_GREY = 236.0
# the page seeks in source.mp4: a keyframe every four frames, no B-frames
_SCRUBBING = ("-crf", "20", "-preset", "veryfast", "-g", "4", "-bf", "0", "-flags", "+cgop")
_PREVIEW = ("-crf", "17", "-preset", "veryfast", "-g", "16", "-flags", "+cgop")
_POSTER_QUALITY = 88
_TIMEOUT_S = 120.0

OnProgress = Callable[[int, int], None]


class Renderer(Protocol):
    """Draws the timesteps of one sequence."""

    def render(
        self,
        vertices: NDArray[np.float32],
        normals: NDArray[np.float32],
        cameras: Sequence[Camera],
    ) -> list[Picture]:
        """One square RGB picture per camera; vertices and normals are `(V, 3)`."""


MakeRenderer = Callable[[MeshSequence], Renderer]


def write_preview(
    sequence: MeshSequence,
    normals: NDArray[np.float32],
    frames: NDArray[np.uint8],
    video: Path,
    poster: Path,
    *,
    make_renderer: MakeRenderer | None = None,
    panel_px: int = PANEL_PX,
    launch: Launch = subprocess.Popen,
    timeout_s: float = _TIMEOUT_S,
    on_progress: OnProgress | None = None,
    in_order: InOrder = map,
) -> None:
    """Write an mp4 of three square panels, at the sequence's own rate, and a WebP of one frame.

    `frames` `(T, H, W, 3|4)` are those of the timesteps, `normals` `(T, V, 3)` those of
    meshes.normals. The default renderer is Embree. `in_order` draws the timesteps, perhaps on
    several cores. Raises ValueError if the arrays do not match, ToolFailed if drawing or encoding
    fails; then neither file is left.
    """
    _check_frames(frames)
    if len(frames) != len(sequence) or normals.shape != sequence.vertices.shape:
        raise ValueError(
            f"{len(sequence)} timesteps need as many frames and normals, "
            f"not {len(frames)} and {len(normals)}"
        )
    if panel_px < 2 or panel_px % 2:
        raise ValueError(f"panels need an even size, not {panel_px}")
    cameras = _cameras(sequence, frames, panel_px)
    try:
        renderer = (make_renderer or _raytracer())(sequence)
        panel = input_panels(frames, panel_px)

        def draw(k: int) -> Picture:
            """The panels side by side, one strip `(S, 3 S, 3)`."""
            pictures = renderer.render(sequence.vertices[k], normals[k], cameras[k])
            return np.concatenate([panel(frames[k]), *pictures], axis=1)

        strips = _told(in_order(draw, range(len(sequence))), len(sequence), on_progress)
        best = _poster_timestep(sequence, [first for first, *_ in cameras])
        size = (panel_px * (1 + len(VIEWS)), panel_px)
        with atomic_file(poster) as part:
            strips = _write_poster(best, strips, part)
            encode_h264(strips, size, sequence.fps, video, _PREVIEW, launch, timeout_s)
    except (cv2.error, ValueError, MemoryError) as exc:
        raise ToolFailed("the preview could not be drawn") from exc


def write_source_video(
    frames: NDArray[np.uint8], fps: float, path: Path, *, launch: Launch = subprocess.Popen
) -> None:
    """Write the frames that were used, `(T, H, W, 3|4)`, frame for frame at the mesh's rate.

    RGBA frames get a light grey background; large ones are reduced to LARGEST_SOURCE_PX; an odd
    side gets its last row or column twice. Raises ToolFailed if encoding fails.
    """
    _check_frames(frames)
    height, width = frames.shape[1:3]
    scale = min(1.0, LARGEST_SOURCE_PX / max(height, width))
    if scale < 1:
        width, height = max(2, round(width * scale)), max(2, round(height * scale))
    even = width + width % 2, height + height % 2
    pictures = (_source_picture(frame, (width, height), even) for frame in frames)
    encode_h264(pictures, even, fps, path, _SCRUBBING, launch, _TIMEOUT_S)


def _check_frames(frames: NDArray[np.uint8]) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] not in (3, 4):
        raise ValueError(f"frames must be uint8 (T, H, W, 3|4), not {frames.dtype} {frames.shape}")
    if 0 in frames.shape:
        raise ValueError(f"there are no frames: {frames.shape}")


def _raytracer() -> MakeRenderer:
    try:
        from meshes.raytracer import make_raytracer  # the rest works without embreex
    except ImportError as exc:
        raise ToolFailed("the renderer embreex is not installed") from exc
    return make_raytracer


def _cameras(
    sequence: MeshSequence, frames: NDArray[np.uint8], panel_px: int
) -> list[list[Camera]]:
    """Two cameras for each timestep: VIEWS, or the video's in place of the first.

    The video's shows what the panel of the input shows, so that both coincide side by side.
    """
    front, three_quarter = fit_cameras(sequence.vertices, VIEWS, panel_px)
    view = sequence.view
    if view is None or view.is_orthographic or not _is_in_front(view, sequence.vertices):
        return [[front, three_quarter]] * len(sequence)
    height, width = frames.shape[1:3]
    view, window = view.scaled_to(width, height), input_window(frames)
    seen = [video_camera(view, t, window, panel_px) for t in range(len(sequence))]
    if not view.is_moving:
        seen = seen[:1] * len(seen)  # the renderer prepares each camera once
    return [[camera, three_quarter] for camera in seen]


def _is_in_front(view: View, vertices: NDArray[np.float32]) -> bool:
    """False if the camera stands in the mesh or looks away, as that of a wrong view may."""
    away = (vertices - view.eyes[:, None]) @ view.axes[2]
    return float(away.max()) < 0


def _told(
    strips: Iterable[Picture], count: int, on_progress: OnProgress | None
) -> Iterator[Picture]:
    """The strips, each told once it is used."""
    for k, strip in enumerate(strips):
        yield strip
        if on_progress:
            on_progress(k + 1, count)


def _poster_timestep(sequence: MeshSequence, cameras: Sequence[Camera]) -> int:
    """The timestep for the poster: the one that is largest in its camera."""
    seen = [
        camera.project(vertices)
        for camera, vertices in zip(cameras, sequence.vertices, strict=True)
    ]
    return int(np.argmax([np.prod(points.max(axis=0) - points.min(axis=0)) for points in seen]))


def _write_poster(best: int, strips: Iterator[Picture], poster: Path) -> Iterator[Picture]:
    """Yield all strips, and write one of them as WebP."""
    for k, strip in enumerate(strips):
        if k == best:
            quality = [cv2.IMWRITE_WEBP_QUALITY, _POSTER_QUALITY]
            poster.write_bytes(cv2.imencode(".webp", strip[..., ::-1], quality)[1].tobytes())
        yield strip


def _source_picture(frame: Picture, size: tuple[int, int], even: tuple[int, int]) -> Picture:
    """One RGB frame of `even` size: composited, then reduced to `size`, then padded."""
    if frame.shape[2] == 4:
        alpha = frame[..., 3:].astype(np.float32) / 255
        frame = (frame[..., :3] * alpha + _SOURCE_GREY * (1 - alpha) + 0.5).astype(np.uint8)
    if frame.shape[1::-1] != size:
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    padding = ((0, even[1] - size[1]), (0, even[0] - size[0]), (0, 0))
    return np.pad(frame, padding, mode="edge") if even != size else frame
