"""Tracking recovers after a frame that it cannot follow, and says which frames it has lost."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from meshes.sequence import MeshSequence
from pipeline import Mode
from silhouette.pipeline import SilhouettePipeline
from subject.find import find_subject
from tests.silhouette.measure import LabelledClip, ReportLog, as_clip, measure
from tests.silhouette.synthetic_clips import Masks, walker, with_alpha
from video.frames import read_clip

_SIDE_PX = 128
_BROKEN = 5


def _animate(masks: Masks, mode: Mode) -> tuple[MeshSequence, ReportLog]:
    """The walker, cut out by `masks`."""
    log = ReportLog()
    clip = as_clip(with_alpha(walker(side=_SIDE_PX)[0], masks))
    return SilhouettePipeline().animate(clip, mode, 44, log), log


def _with_broken_mask(true_masks: Masks, mask: Masks) -> Masks:
    masks: Masks = true_masks.copy()
    masks[_BROKEN] = mask
    return masks


def test_after_a_frame_with_a_wrong_mask_the_others_fit_again() -> None:
    frames, true_masks = walker(side=_SIDE_PX)
    disk = cv2.circle(np.zeros((_SIDE_PX, _SIDE_PX), np.uint8), (32, 32), 21, 1, -1)
    mesh, _ = _animate(_with_broken_mask(true_masks, disk > 0), "fast_low_ram")
    others = np.arange(len(frames)) != _BROKEN
    rest = MeshSequence(mesh.vertices[others], mesh.faces, mesh.fps, texture=mesh.texture)
    fit = measure(rest, LabelledClip("walker", as_clip(frames[others]), true_masks[others]))
    assert fit.iou_worst > 0.8
    assert fit.iou_mean > 0.88


def test_the_warning_names_exactly_the_frame_whose_mask_no_figure_fits() -> None:
    _, true_masks = walker(side=_SIDE_PX)
    bars = np.zeros((_SIDE_PX, _SIDE_PX), bool)
    for offset in range(4):
        bars[offset :: _SIDE_PX // 8] = True
    _, log = _animate(_with_broken_mask(true_masks, bars), "default")
    assert log.facts["tracking_lost"] == {"frames": [_BROKEN]}


def test_a_frame_without_a_subject_is_lost() -> None:
    _, true_masks = walker(side=_SIDE_PX)
    masks = _with_broken_mask(true_masks, np.zeros((_SIDE_PX, _SIDE_PX), bool))
    _, log = _animate(masks, "fast_low_ram")
    assert _BROKEN in log.facts["tracking_lost"]["frames"]


def test_legs_that_cross_do_not_spoil_the_frames_after(test_media: Path) -> None:
    clip, _ = read_clip(test_media / "field" / "F3_walk_legs_cross.mp4", "mov")
    log = ReportLog()
    found = find_subject(clip, None, log).clip
    mesh = SilhouettePipeline().animate(found, "default", 44, log)
    masks = found.frames[..., 3] > 127
    assert measure(mesh, LabelledClip("walk", found, masks)).iou_worst >= 0.90
    assert "tracking_lost" not in log.warnings
