"""Writes every output file of a job, inside the child process. Called by child/recipe.py.

The GLBs and their zip are required: if one cannot be written, the job fails. All other files are
optional: a failure is a warning of the finished job, and a line in the log.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from child.reporter import JobReporter
from errors import InternalError
from gpus import find_gpus
from meshes.archive import write_archive
from meshes.blender import export_with_blender
from meshes.external_tools import ToolFailed
from meshes.gltf import write_animated, write_frames
from meshes.normals import vertex_normals
from meshes.npz import write_npz
from meshes.preview import MakeRenderer, write_preview, write_source_video
from meshes.sequence import MeshSequence
from video.clip import Clip
from video.cores import in_order
from video.sandbox import ENCODE, Limits, launch

log = logging.getLogger(__name__)

BLENDER = Limits(memory_mb=16_384, cpu_s=900, file_mb=2048, open_files=1024)
"""Blender maps far more memory than it uses, and opens its scripts and fonts."""

DRAWS_IN_GB = 2.0
"""GPU memory that must be free to draw the preview there: the pipeline has priority."""

Normals = NDArray[np.float32]


def write_files(clip: Clip, meshes: MeshSequence, reporter: JobReporter, blender_path: str) -> None:
    """Write all files of the reporter's task into its workspace.

    Raises Cancelled, and OSError if the disk is full.
    """
    options, out, steps = reporter.task.options, reporter.task.workspace, len(meshes) + 2
    facts = {"pipeline": reporter.pipeline, "mode": options.mode, "seed": reporter.seed}
    normals = vertex_normals(meshes)
    reporter.progress("exporting", 0, steps, "Writing the meshes")

    def frame_written(step: int, _: int) -> None:
        reporter.written(f"mesh_{step - 1:03d}.glb")
        reporter.progress("exporting", step, steps)

    frames = write_frames(meshes, normals, out, facts, frame_written)
    write_animated(meshes, normals, out / "animated_mesh.glb", facts)
    reporter.written("animated_mesh.glb")
    reporter.progress("exporting", len(meshes) + 1, steps)
    write_archive(frames, out / "meshes.zip")
    reporter.written("meshes.zip")
    if "npz" in options.formats:
        write_npz(meshes, out / "animated_mesh.npz")
        reporter.written("animated_mesh.npz")
    if "usdz" in options.formats:
        reporter.progress("exporting", 1, 1, "Writing USD")
        warning = "The USDZ could not be written; the meshes are fine."
        with _optional(reporter, "usdz_failed", warning):
            from meshes.usd import write_usdz  # the other files need no usd-core

            write_usdz(meshes, normals, out / "animated_mesh.usdz")
            reporter.written("animated_mesh.usdz")
    if options.blender_export:
        _write_with_blender(out, meshes, reporter, blender_path)
    _write_videos(out, clip, meshes, normals, reporter)


@contextmanager
def _optional(reporter: JobReporter, code: str, message: str) -> Iterator[None]:
    """A tool that fails or is missing inside is a warning of the finished job."""
    try:
        yield
    except (ToolFailed, InternalError, ImportError) as failure:
        log.exception("%s: %s", code, getattr(failure, "log", ""))
        reporter.warning(code, message)


def _write_with_blender(
    out: Path, meshes: MeshSequence, reporter: JobReporter, blender_path: str
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
    warning = "Blender failed, so there is no FBX and no Alembic; the meshes are fine."
    with _optional(reporter, "blender_failed", warning):
        in_sandbox = partial(launch, limits=BLENDER)
        made = export_with_blender(
            meshes, out, blender, launch=in_sandbox, while_waiting=report_waiting
        )
        reporter.written(*(path.name for path in made))
        if not any(path.suffix == ".abc" for path in made):
            reporter.warning(
                "alembic_unavailable",
                "This server's Blender was built without Alembic; the FBX is there.",
            )


def _write_videos(
    out: Path, clip: Clip, meshes: MeshSequence, normals: Normals, reporter: JobReporter
) -> None:
    reporter.progress("rendering", 0, len(meshes) + 1, "Rendering the preview")
    encode = partial(launch, limits=ENCODE)
    report = partial(reporter.progress, "rendering")
    files = out / "preview.mp4", out / "poster.webp"
    draw = partial(write_preview, meshes, normals, clip.frames, *files, launch=encode)
    warning = "The preview failed; the meshes are fine."
    with _optional(reporter, "preview_unavailable", warning):
        write_source_video(clip.frames, clip.fps, out / "source.mp4", launch=encode)
        reporter.written("source.mp4")
        make_renderer = renderer_on_gpu()
        try:
            if make_renderer is None:
                draw(on_progress=report, in_order=in_order)
            else:
                draw(on_progress=report, make_renderer=make_renderer)
        except ToolFailed:
            if make_renderer is None:
                raise
            log.warning("the GPU renderer failed; the CPU draws the preview", exc_info=True)
            draw(on_progress=report)
        reporter.written(*(file.name for file in files))


def renderer_on_gpu() -> MakeRenderer | None:
    """PyTorch3D's renderer if it works and the GPU has free memory; None for Embree."""
    if importlib.util.find_spec("pytorch3d") is None:
        return None
    gpus = find_gpus(os.environ)  # one, where the server has chosen it for this process
    return _rasterizer() if gpus and gpus[0].free_gb >= DRAWS_IN_GB else None


@cache
def _rasterizer() -> MakeRenderer | None:
    try:
        import torch

        from meshes.rasterizer import make_rasterizer
    except (ImportError, OSError):  # built for another torch or CUDA
        log.warning("PyTorch3D is installed but cannot be imported", exc_info=True)
        return None
    return make_rasterizer if torch.cuda.is_available() else None
