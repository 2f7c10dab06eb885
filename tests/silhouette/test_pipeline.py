"""The whole pipeline on synthetic clips: every input gives a valid mesh or NoSubjectFound."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from errors import Cancelled, NoSubjectFound
from meshes.sequence import MeshSequence
from pipeline import Mode
from silhouette.arap import Arap
from silhouette.inflation import is_closed
from silhouette.pipeline import SilhouettePipeline
from subject.find import find_subject
from tests.silhouette.measure import LabelledClip, ReportLog, as_clip, measure
from tests.silhouette.synthetic_clips import Frames, busy, on_background, plain, walker, with_alpha


def _animate(frames: Frames, mode: Mode = "fast_low_ram") -> tuple[MeshSequence, ReportLog]:
    log = ReportLog()
    clip = find_subject(as_clip(frames), None, log).clip
    return SilhouettePipeline().animate(clip, mode, 44, log), log


def _assert_valid(mesh: MeshSequence) -> None:
    assert np.abs(mesh.vertices).max() <= 1
    assert mesh.vertices.max() > 0.9
    nothing = as_clip(np.zeros((len(mesh), 8, 8, 3), np.uint8))
    measured = measure(mesh, LabelledClip("", nothing, np.ones((len(mesh), 8, 8), bool)))
    assert measured.watertight
    assert measured.volume > 0
    assert measured.degenerate == 0
    assert measured.turned <= 0.015


@pytest.fixture(scope="module")
def figure() -> tuple[Frames, np.ndarray]:
    return walker()


@pytest.fixture(scope="module")
def short() -> tuple[Frames, np.ndarray]:
    """Half a step: enough for tests that do not check motion."""
    return walker(count=8)


@pytest.mark.parametrize("faces", [1_000, 20_000, 100_000])
def test_the_wanted_number_of_triangles_is_met_within_a_tenth(
    short: tuple[Frames, np.ndarray], faces: int
) -> None:
    clip, pipeline = as_clip(with_alpha(*short)), SilhouettePipeline()
    mesh = pipeline.animate(clip, "fast_low_ram", 44, ReportLog(), faces=faces)
    assert abs(len(mesh.faces) - faces) < 0.1 * faces
    assert is_closed(mesh.faces)


def test_a_walker_with_alpha_becomes_a_mesh_that_fits(figure: tuple[Frames, np.ndarray]) -> None:
    frames, masks = figure
    rgba = with_alpha(frames, masks)
    mesh, log = _animate(rgba, "default")
    measured = measure(mesh, LabelledClip("walker", as_clip(rgba), masks))
    _assert_valid(mesh)
    assert measured.iou_mean > 0.88
    assert measured.photo < 35
    assert log.warnings == []
    assert list(log.stages) == ["background", "shape", "motion", "decoding"]
    assert len(log.anchors) == 1
    assert len(log.anchors[0]) == 1
    assert np.array_equal(log.anchors[0].faces, mesh.faces)
    assert mesh.texture is not None
    assert mesh.texture.media_type == "image/jpeg"
    assert len(mesh.texture.image) < 100_000


@pytest.mark.parametrize("colour", [(250, 250, 250), (30, 30, 34)])
def test_a_subject_on_a_plain_background_is_segmented(
    short: tuple[Frames, np.ndarray], colour: tuple[int, int, int]
) -> None:
    frames, masks = short
    clip = on_background(frames, masks, plain(128, colour, noise=1.5))
    mesh, log = _animate(clip)
    assert measure(mesh, LabelledClip("walker", as_clip(clip), masks)).iou_mean > 0.85
    assert "low_confidence_segmentation" not in log.warnings


def test_a_subject_on_a_busy_background_that_lacks_limbs_gets_a_warning() -> None:
    frames, masks = walker(side=256)
    clip = on_background(frames, masks, busy(16, 256, 2.0, seed=5))
    mesh, log = _animate(clip)
    iou = measure(mesh, LabelledClip("walker", as_clip(clip), masks)).iou_mean
    assert iou > 0.5
    assert iou > 0.85 or "low_confidence_segmentation" in log.warnings


def test_opaque_alpha_is_ignored(short: tuple[Frames, np.ndarray]) -> None:
    frames, masks = short
    clip = on_background(frames, masks, plain(128, (235, 235, 240)))
    opaque = with_alpha(clip, np.ones_like(masks))
    mesh, _ = _animate(opaque)
    assert measure(mesh, LabelledClip("walker", as_clip(opaque), masks)).iou_mean > 0.85


def test_a_walker_that_crosses_the_picture_is_followed() -> None:
    frames, masks = walker(side=192, speed=0.03, size=0.5)
    mesh, _ = _animate(with_alpha(frames, masks))
    _assert_valid(mesh)
    sample = LabelledClip("walker", as_clip(frames), masks)
    assert measure(mesh, sample).iou_mean > 0.85
    way = mesh.vertices[-1, :, 0].mean() - mesh.vertices[0, :, 0].mean()
    assert way > 0.5  # to the right: not mirrored


def test_the_mesh_is_upright_and_faces_the_viewer(short: tuple[Frames, np.ndarray]) -> None:
    frames, masks = short
    mesh, _ = _animate(with_alpha(frames, masks))
    head = mesh.vertices[0, mesh.vertices[0, :, 0] > 0.75]
    assert head[:, 1].mean() > 0.1  # the head is at the upper right
    v = mesh.vertices[0]
    normals = np.cross(
        v[mesh.faces[:, 1]] - v[mesh.faces[:, 0]], v[mesh.faces[:, 2]] - v[mesh.faces[:, 0]]
    )
    depth = v[mesh.faces].mean(axis=1)[:, 2]
    assert np.mean(np.sign(normals[:, 2]) == np.sign(depth)) > 0.9


def test_the_same_clip_gives_the_same_mesh(short: tuple[Frames, np.ndarray]) -> None:
    frames, masks = short
    clip = on_background(frames, masks, plain(128, (240, 240, 240)))
    one, two = _animate(clip)[0], _animate(clip)[0]
    assert np.array_equal(one.vertices, two.vertices)
    assert one.texture is not None
    assert two.texture is not None
    assert one.texture.image == two.texture.image


def test_a_still_subject_stays_still(figure: tuple[Frames, np.ndarray]) -> None:
    frames, masks = figure
    mesh, _ = _animate(with_alpha(frames[[3] * 8], masks[[3] * 8]))
    steps = np.abs(np.diff(mesh.vertices, axis=0))
    assert steps.mean() < 5e-4
    assert steps.max() < 0.03  # where limbs nearly touch, the rim settles


def test_a_subject_cut_by_the_border_gets_a_warning() -> None:
    frames, masks = walker(size=1.35)
    _, log = _animate(with_alpha(frames, masks))
    assert "subject_touches_border" in log.warnings


def test_two_subjects_get_a_warning() -> None:
    frames, masks = walker(side=96)
    rgba = np.concatenate([with_alpha(frames, masks)] * 2, axis=2)
    mesh, log = _animate(rgba)
    _assert_valid(mesh)
    assert "several_subjects" in log.warnings


_NOISE = np.random.default_rng(1).integers(0, 256, (8, 96, 96, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("blank", np.full((16, 96, 96, 3), 255, np.uint8)),
        ("black", np.zeros((16, 96, 96, 3), np.uint8)),
        ("noise", _NOISE),
        ("still noise", np.repeat(_NOISE[:1], 8, axis=0)),
        ("grainy white", np.clip(_NOISE // 16 + 235, 0, 255).astype(np.uint8)),
        ("clear", np.zeros((16, 96, 96, 4), np.uint8)),
        ("opaque white", np.full((16, 96, 96, 4), 255, np.uint8)),
        ("still scene", busy(8, 128, 0.0, seed=2)),
        ("panning scene", busy(8, 128, 2.0, seed=3)),
        ("one pixel", np.full((16, 1, 1, 3), 7, np.uint8)),
        ("a line", np.full((16, 1, 300, 4), 9, np.uint8)),
    ],
)
def test_a_clip_without_subject_raises_no_subject_found(name: str, frames: Frames) -> None:
    with pytest.raises(NoSubjectFound) as found:
        _animate(frames)
    assert found.value.hint
    assert found.value.facts


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(64, 64, 3), (37, 91, 4), (150, 33, 3), (16, 16, 4)]
)
def test_odd_frames_give_a_valid_mesh_or_no_subject(height: int, width: int, channels: int) -> None:
    rng = np.random.default_rng(height + channels)
    frames = np.zeros((8, height, width, channels), np.uint8)
    for t in range(8):
        cells = rng.integers(0, 256, (5, 4, channels)).astype(np.uint8)
        frames[t] = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
        frames[t, :, : 1 + (t * width) // 20] = 200
    try:
        mesh, _ = _animate(frames)
    except NoSubjectFound:
        return
    _assert_valid(mesh)


def test_cancelled_reaches_the_caller(short: tuple[Frames, np.ndarray]) -> None:
    class CancelsInMotion(ReportLog):
        def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
            assert 0 <= step <= steps
            if (stage, step >= 5) == ("motion", True):
                raise Cancelled

    frames, masks = short
    clip = as_clip(with_alpha(frames, masks))
    with pytest.raises(Cancelled):
        SilhouettePipeline().animate(clip, "fast_low_ram", 44, CancelsInMotion())


def test_no_frame_without_the_subject_is_tried_as_the_reference() -> None:
    """Of 31 frames the even ones are tried; 17 would be the second pick, and 16 is empty."""
    frames, masks = walker(count=31)
    masks[[12, 14, 16]] = False
    mesh, _ = _animate(with_alpha(frames, masks))
    assert len(mesh) == 31
    _assert_valid(mesh)


def test_a_mesh_without_nodes_has_nothing_to_solve() -> None:
    assert Arap(np.zeros((0, 3), np.int64), 0).nodes == 0
