"""The appearance step of a job: the video's camera, the score of the meshes, and their colours.

It comes between the checkpoint and the files, in stage exporting. What cannot be made is left out,
with its reason: only a cancel or a full disk ends the job here. appearance/ has the methods. Called
by child/recipe.py.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import cv2
import numpy as np

from appearance import OnProgress
from appearance.bake import SIZES_PX, bake_texture, texture_size_px
from appearance.fit import Fit, NotFitted, fit_view
from appearance.score import Score, score_view
from appearance.unwrap import LIMITS, unwrap
from child.reporter import AFTER, JobReporter
from child.score_warnings import Warned, about_score, about_texture, about_view, not_painted
from child.subject_files import DamagedMasks, read_masks
from errors import Cancelled, is_disk_full
from job import appearance_step
from job.task import MASKS
from meshes.sequence import MeshSequence
from pipeline import Mode
from video.clip import Clip
from video.sandbox import launch

log = logging.getLogger(__name__)

MAX_FACES = 100_000
"""The most that `faces` asks for; a client's own mesh may have more, and would take minutes."""
LEAST_OUTLINE_PX = 32
"""Length of the subject's box in the frames: in a smaller one a shift by one pixel changes overlaps
as much as a bad mesh does."""

_FIT_PART, _UNWRAP_PART = 0.8, 0.35
"""Of the time for the view with its score, and of the time for the colours."""
_UNWRAP_S = 4.0
"""For 40,000 triangles."""
_FAILED = "The view, the score or the colours could not be made; the meshes are fine."


class _NothingToCompare(Exception):
    """The frames show no outlines of a subject; the message says why, for people."""


@dataclass(frozen=True)
class Appearance:
    """The meshes, perhaps with a new view and texture, and what the job shows of the others."""

    meshes: MeshSequence
    score: dict[str, Any] = field(default_factory=dict)
    texture: dict[str, Any] = field(default_factory=dict)


def add_appearance(clip: Clip, meshes: MeshSequence, reporter: JobReporter) -> Appearance:
    """The meshes with a view and a texture, as far as these can be made.

    The clip is as it was sent. Raises Cancelled, and OSError if the disk is full.
    """
    made = Appearance(meshes, texture=_left_alone(meshes, reporter))
    paints = not made.texture
    reporter.plan(*(part for part in AFTER if part != "texture" or paints))
    try:
        with appearance_step.noted(reporter.task):
            seen = _with_outlines(clip, meshes, reporter)
            made, fit = _with_view(made, seen, reporter)
            made, score = _with_score(made, seen, fit, reporter)
            if paints:
                made = _painted(made, seen, score, reporter)
    except Cancelled:
        raise
    except _NothingToCompare as nothing:
        made = _unpainted(made, "skipped", str(nothing))
    except NotFitted as unfitted:
        reason = f"No camera was found: {unfitted}."
        reporter.warning("outline_poor", reason)
        made = _unpainted(made, "skipped", reason, reporter)
    except Exception as failure:
        if isinstance(failure, OSError) and is_disk_full(failure):
            raise
        log.exception("the appearance step failed: %s", getattr(failure, "log", ""))
        reporter.warning("appearance_failed", _FAILED)
        made = _unpainted(made, "failed", _FAILED)
    reporter.plan(*(part for part in AFTER if part not in ("view", "texture")))
    return made


def _left_alone(meshes: MeshSequence, reporter: JobReporter) -> dict[str, Any]:
    """The texture's state if none is to be made; empty if one is."""
    if meshes.texture is not None or meshes.colors is not None:
        return _texture("given")
    if reporter.task.options.texture == "none":
        return _texture("skipped", "The job asked for none.")
    return {}


def _unpainted(
    made: Appearance, state: str, reason: str, warns: JobReporter | None = None
) -> Appearance:
    """Without a texture for this reason, unless it has its state already."""
    if made.texture:
        return made
    if warns is not None:
        warns.warning("texture_skipped", f"The mesh has no colours. {reason}")
    return replace(made, texture=_texture(state, reason))


def _texture(state: str, reason: str | None = None, **parts: float) -> dict[str, Any]:
    """As the job shows it."""
    shown = {name: _rounded(parts.get(name)) for name in ("seen", "mirrored", "filled")}
    return {"state": state, "reason": reason, **shown}


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(float(number), 3)


# --- the frames


def _with_outlines(clip: Clip, meshes: MeshSequence, reporter: JobReporter) -> Clip:
    """The clip with the alpha that was used. Raises _NothingToCompare, Cancelled."""
    if len(clip) != len(meshes):
        raise _NothingToCompare(f"There are {len(clip)} frames and {len(meshes)} meshes.")
    try:
        masks = reporter.task.workspace / MASKS
        clip = clip.with_alpha(read_masks(masks, clip, reporter.check_cancelled))
    except FileNotFoundError:
        pass  # the pipeline has not looked for a subject
    except DamagedMasks:
        log.warning("the masks cannot be used", exc_info=True)
    if not clip.has_alpha:
        raise _NothingToCompare("It is not known which pixels are the subject.")
    shapes = (clip.frames[..., 3] > 127).astype(np.uint8)
    sizes_px = [max(cv2.boundingRect(shape)[2:]) for shape in shapes if shape.any()]
    long_px = float(np.median(sizes_px or [0]))
    if long_px < LEAST_OUTLINE_PX:
        raise _NothingToCompare(
            f"The subject is {long_px:.0f} pixels long; {LEAST_OUTLINE_PX} are needed."
        )
    return clip


# --- the view, the score, the colours


def texture_px(meshes: MeshSequence, clip: Clip, mode: Mode) -> int:
    """Side of the texture of meshes with a view: a large one takes twice the time and memory."""
    assert meshes.view is not None
    return texture_size_px(meshes, clip, meshes.view) if mode == "default" else SIZES_PX[0]


def _with_view(
    made: Appearance, seen: Clip, reporter: JobReporter
) -> tuple[Appearance, Fit | None]:
    """With the pipeline's view, or one that is fitted. Raises NotFitted."""
    meshes, fit = made.meshes, None
    if meshes.view is None:
        fit = fit_view(meshes, seen, _report(reporter, "view", 0, _FIT_PART, "Finding the camera"))
        meshes = replace(meshes, view=fit.view)
    assert meshes.view is not None
    _warn(reporter, about_view(meshes.view, is_ambiguous=fit is not None and fit.is_ambiguous))
    return replace(made, meshes=meshes), fit


def _with_score(
    made: Appearance, seen: Clip, fit: Fit | None, reporter: JobReporter
) -> tuple[Appearance, Score]:
    """Raises ValueError for numbers that are not finite."""
    view = made.meshes.view
    assert view is not None
    begin = _FIT_PART if fit else 0.0
    report = _report(reporter, "view", begin, 1.0, "Comparing the mesh with the video")
    score = score_view(made.meshes, seen, view, report)
    runner_up = fit.runner_up if fit else None
    numbers = (*score.outlines, score.video_motion, score.motion or 0.0, runner_up or 0.0)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"a score that is not finite: {score}")
    shown = {
        "outline_mean": _rounded(score.outline_mean),
        "outline_worst": _rounded(score.outline_worst),
        "worst_frame": score.worst_frame,
        "motion": _rounded(score.motion),
        "video_motion": _rounded(score.video_motion),
        "runner_up": _rounded(runner_up),
        "outlines": [_rounded(overlap) for overlap in score.outlines],
    }
    _warn(reporter, about_score(score))
    return replace(made, score=shown), score


def _painted(made: Appearance, seen: Clip, score: Score, reporter: JobReporter) -> Appearance:
    """With a texture, if the outlines fit well enough for one."""
    meshes, count = made.meshes, len(made.meshes.faces)
    reason = not_painted(score)
    if not reason and count > MAX_FACES:
        reason = f"It has {count:,} triangles; at most {MAX_FACES:,} can be painted."
    if not reason and importlib.util.find_spec("xatlas") is None:
        reason = "This server lacks the package xatlas, which colours need."
    if reason:
        return _unpainted(made, "skipped", reason, reporter)
    assert meshes.view is not None
    size_px = texture_px(meshes, seen, reporter.task.options.mode)
    begin, expected_s = time.monotonic(), _UNWRAP_S * count / 40_000

    def while_waiting() -> None:  # xatlas does not say how far it is
        waited = min(1.0, (time.monotonic() - begin) / expected_s)
        reporter.part("texture", _UNWRAP_PART * waited, "Unwrapping the mesh")

    in_sandbox = partial(launch, limits=LIMITS)
    unwrapped = unwrap(meshes.vertices[0], meshes.faces, size_px, in_sandbox, while_waiting)
    report = _report(reporter, "texture", _UNWRAP_PART, 1.0, "Painting the mesh")
    baked = bake_texture(meshes, seen, meshes.view, unwrapped, size_px, report)
    if not baked.seen > 0:  # nor where sizes overflow
        return _unpainted(made, "skipped", "No frame shows its surface well enough.", reporter)
    _warn(reporter, about_texture(baked.seen))
    state = _texture("baked", seen=baked.seen, mirrored=baked.mirrored, filled=baked.filled)
    return replace(made, meshes=baked.meshes, texture=state)


def _report(reporter: JobReporter, part: str, begin: float, end: float, message: str) -> OnProgress:
    """Reports 0 to 1 as `begin` to `end` of this part of the job."""
    return lambda done: reporter.part(part, begin + (end - begin) * done, message)


def _warn(reporter: JobReporter, found: Iterable[Warned]) -> None:
    for code, message, facts in found:
        reporter.warning(code, message, **facts)
