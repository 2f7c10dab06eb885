"""Finds the bones of a job's mesh, and writes the files that need them. Called by child/exports.py.

A skin is never exact to the last digit, so its errors are measured: a warning says where they can
be seen, and beyond `FittedSkin.is_usable` no file has bones.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from child.optional_file import optional_file
from child.reporter import JobReporter
from meshes.compact import gltfpack_path, write_compact
from meshes.sequence import MeshSequence
from meshes.skin import Skin
from meshes.skinned_glb import write_skinned
from meshes.skinning import FittedSkin, fit_skin
from video.sandbox import Limits, launch

GLTFPACK = Limits(memory_mb=16_384, cpu_s=300, file_mb=1024, open_files=256)
"""Its WebAssembly maps 10 GB of addresses and uses a fraction of that."""
SKINNED, COMPACT = "skinned_mesh.glb", "compact_mesh.glb"

Normals = NDArray[np.float32]
Facts = Mapping[str, Any]


def write_skin_files(
    meshes: MeshSequence, normals: Normals, reporter: JobReporter, facts: Facts
) -> Skin | None:
    """What formats skinned and compact ask for; the skin, if skinned is asked for and possible.

    A failure is a warning. Raises Cancelled, and OSError if the disk is full.
    """
    asked = reporter.task.options.all_formats
    makes_compact = "compact" in asked and _has_gltfpack(reporter)
    if not makes_compact and "skinned" not in asked:
        return None
    fitted = find_skin(meshes, reporter)
    if fitted and "skinned" in asked:
        _write_skinned(meshes, fitted, normals, reporter, facts)
    if makes_compact:
        _write_compact(meshes, fitted, normals, reporter, facts)
    return fitted.skin if fitted and "skinned" in asked else None


def find_skin(meshes: MeshSequence, reporter: JobReporter) -> FittedSkin | None:
    """The skin, if it is good enough for a file. Raises Cancelled."""
    report = partial(reporter.part, "skin", message="Finding the bones")
    report(0.0)
    fitted: FittedSkin | None = None
    with optional_file(reporter, "skin_failed", "No bones could be found; the meshes are fine."):
        fitted = fit_skin(meshes.vertices, report)
        # without bones the compact mesh is exact
        if not fitted.is_exact and (fitted.is_usable or "skinned" in reporter.task.options.formats):
            _warn(fitted, reporter)
    return fitted if fitted and fitted.is_usable else None


def _write_skinned(
    meshes: MeshSequence, fitted: FittedSkin, normals: Normals, reporter: JobReporter, facts: Facts
) -> None:
    """skinned_mesh.glb, and skinned_mesh.usdz if USDZ is asked for, too."""
    out, asked = reporter.task.workspace, reporter.task.options.all_formats
    with optional_file(
        reporter, "skin_failed", "The skinned mesh could not be written; the meshes are fine."
    ):
        _write_glb(meshes, fitted, normals, out / SKINNED, facts)
        reporter.written(SKINNED)
    if "usdz" in asked:
        warning = "The skinned USDZ could not be written; the meshes are fine."
        with optional_file(reporter, "usdz_failed", warning):
            from meshes.usd_skin import write_skinned_usdz  # the other files need no usd-core

            write_skinned_usdz(meshes, fitted.skin, normals, out / "skinned_mesh.usdz")
            reporter.written("skinned_mesh.usdz")


def _write_compact(
    meshes: MeshSequence,
    fitted: FittedSkin | None,
    normals: Normals,
    reporter: JobReporter,
    facts: Facts,
) -> None:
    """compact_mesh.glb: of the skin if there is one, else of the animated mesh."""
    report = partial(reporter.progress, "exporting", 1, 1, "Making a compact file")
    report()
    out = reporter.task.workspace
    warning = "The compact mesh could not be written; the meshes are fine."
    with (
        optional_file(reporter, "compact_failed", warning),
        tempfile.TemporaryDirectory(dir=out, prefix="compact-") as folder,
    ):
        source = out / "animated_mesh.glb"
        if fitted is not None:
            source = Path(folder) / SKINNED
            _write_glb(meshes, fitted, normals, source, facts)
        write_compact(
            source,
            out / COMPACT,
            has_skin=fitted is not None,
            launch=partial(launch, limits=GLTFPACK),
            while_waiting=report,
        )
        reporter.written(COMPACT)


def _has_gltfpack(reporter: JobReporter) -> bool:
    """Warns if not."""
    if gltfpack_path() is None:
        reporter.warning(
            "compact_unavailable",
            "This server has no gltfpack, so there is no compact mesh; the meshes are fine.",
        )
        return False
    return True


def _write_glb(
    meshes: MeshSequence, fitted: FittedSkin, normals: Normals, path: Path, facts: Facts
) -> None:
    facts = {**facts, "rms": round(fitted.rms, 5), "largest": round(fitted.largest, 5)}
    write_skinned(meshes, fitted.skin, normals, path, facts)


def _warn(fitted: FittedSkin, reporter: JobReporter) -> None:
    """With the errors in the text and as facts."""
    errors = f"{fitted.rms:.2%} of its size on average (rms), {fitted.largest:.1%} at most"
    if fitted.is_usable:
        message = f"Bones do not move the mesh exactly: its vertices are off by {errors}."
    else:
        message = (
            f"Bones cannot move this mesh: its vertices would be off by {errors}. So no file has "
            "bones; the meshes are fine."
        )
    found = {name: round(getattr(fitted, name), 5) for name in ("rms", "p99", "largest")}
    reporter.warning("skin_inexact", message, **found)
