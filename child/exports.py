"""Writes every output file of a job, inside the child process. Called by child/recipe.py.

The GLBs and their zip are required: if one cannot be written, the job fails. All other files are
optional: a failure is a warning of the finished job, and a line in the log.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import InternalError
from job.task import Task
from meshes.archive import write_archive
from meshes.blender import export_with_blender
from meshes.gltf import write_animated, write_frames
from meshes.h264 import ToolFailed
from meshes.normals import vertex_normals
from meshes.npz import write_npz
from meshes.preview import MakeRenderer, write_preview, write_source_video
from meshes.sequence import MeshSequence
from pipeline import Reporter, find_gpu
from video.clip import Clip
from video.sandbox import ENCODE, Limits, launch

log = logging.getLogger(__name__)

BLENDER = Limits(memory_mb=16_384, cpu_s=900, file_mb=2048, open_files=1024)
"""Blender maps far more memory than it uses, and opens its scripts and fonts."""

DRAWS_IN_GB = 2.0
"""GPU memory that must be free to draw the preview there: the pipeline has priority."""

Normals = NDArray[np.float32]


def write_files(
    task: Task,
    clip: Clip,
    meshes: MeshSequence,
    reporter: Reporter,
    facts: Mapping[str, Any],
    blender_path: str,
) -> None:
    """Write all files of the task into its workspace; `facts` are stored in the GLBs.

    Raises Cancelled, and OSError if the disk is full.
    """
    normals = vertex_normals(meshes)
    _write_glbs(task, meshes, normals, reporter, facts)
    if "npz" in task.options.formats:
        write_npz(meshes, task.workspace / "animated_mesh.npz")
    if "usdz" in task.options.formats:
        _write_usdz(task, meshes, normals, reporter)
    if task.options.blender_export:
        _write_with_blender(task, meshes, reporter, blender_path)
    _write_videos(task, clip, meshes, normals, reporter)


def _write_glbs(
    task: Task, meshes: MeshSequence, normals: Normals, reporter: Reporter, facts: Mapping[str, Any]
) -> None:
    out, steps = task.workspace, len(meshes) + 2
    reporter.progress("exporting", 0, steps, "Writing the meshes")

    def frame_written(step: int, _: int) -> None:
        reporter.progress("exporting", step, steps)

    frames = write_frames(meshes, normals, out, facts, frame_written)
    write_animated(meshes, normals, out / "animated_mesh.glb", facts)
    reporter.progress("exporting", len(meshes) + 1, steps)
    write_archive(frames, out / "meshes.zip")


def _write_usdz(task: Task, meshes: MeshSequence, normals: Normals, reporter: Reporter) -> None:
    reporter.progress("exporting", 1, 1, "Writing USD")
    try:
        from meshes.usd import write_usdz  # the rest works without usd-core

        write_usdz(meshes, normals, task.workspace / "animated_mesh.usdz")
    except (ImportError, ToolFailed):
        log.exception("no usdz (is usd-core installed?)")
        reporter.warning("usdz_failed", "The USDZ could not be written; the meshes are fine.")


def _write_with_blender(
    task: Task, meshes: MeshSequence, reporter: Reporter, blender_path: str
) -> None:
    """FBX and Alembic by the Blender that BLENDER_PATH names, if there is one."""
    blender = shutil.which(os.path.expanduser(blender_path)) if blender_path else None
    if blender is None:
        log.warning("no Blender: BLENDER_PATH is %r", blender_path)
        reporter.warning(
            "blender_unavailable",
            "This server has no Blender, so there is no FBX and no Alembic; the meshes are fine.",
        )
        return

    def report_waiting() -> None:
        reporter.progress("exporting", 1, 1, "Blender writes FBX and Alembic")

    report_waiting()
    try:
        made = export_with_blender(
            meshes,
            task.workspace,
            blender,
            launch=partial(launch, limits=BLENDER),
            while_waiting=report_waiting,
        )
    except (ToolFailed, InternalError) as failure:
        log.exception("Blender failed: %s", getattr(failure, "log", ""))
        reporter.warning(
            "blender_failed",
            "Blender failed, so there is no FBX and no Alembic; the meshes are fine.",
        )
        return
    if not any(path.suffix == ".abc" for path in made):
        reporter.warning(
            "alembic_unavailable",
            "This server's Blender was built without Alembic; the FBX is there.",
        )


def _write_videos(
    task: Task, clip: Clip, meshes: MeshSequence, normals: Normals, reporter: Reporter
) -> None:
    out: Path = task.workspace
    reporter.progress("rendering", 0, len(meshes) + 1, "Rendering the preview")
    encode = partial(launch, limits=ENCODE)
    draw = partial(
        write_preview,
        meshes,
        normals,
        clip.frames,
        out / "preview.mp4",
        out / "poster.webp",
        launch=encode,
        on_progress=lambda step, steps: reporter.progress("rendering", step, steps),
    )
    try:
        write_source_video(clip.frames, clip.fps, out / "source.mp4", launch=encode)
        make_renderer = renderer_on_gpu()
        try:
            draw(make_renderer=make_renderer)
        except ToolFailed:
            if make_renderer is None:
                raise
            log.warning("the GPU renderer failed; the CPU draws the preview", exc_info=True)
            draw()
    except (ToolFailed, InternalError) as failure:
        log.exception("no preview: %s", getattr(failure, "log", ""))
        reporter.warning("preview_unavailable", "The preview failed; the meshes are fine.")


def renderer_on_gpu() -> MakeRenderer | None:
    """PyTorch3D's renderer if it works and the GPU has free memory; None for Embree."""
    if importlib.util.find_spec("pytorch3d") is None:
        return None
    gpu = find_gpu()
    if gpu is None or gpu.free_gb < DRAWS_IN_GB:
        return None
    return _rasterizer()


@cache
def _rasterizer() -> MakeRenderer | None:
    try:
        import torch

        from meshes.rasterizer import make_rasterizer
    except (ImportError, OSError):  # built for another torch or CUDA
        log.warning("PyTorch3D is installed but cannot be imported", exc_info=True)
        return None
    return make_rasterizer if torch.cuda.is_available() else None
