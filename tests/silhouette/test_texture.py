"""Files of single frames show what their frame shows; the animated file has one picture."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from meshes.gltf import write_animated, write_frames
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from silhouette.pipeline import SilhouettePipeline
from tests.meshes.glb_reader import ReadGlb
from tests.silhouette.measure import LabelledClip, ReportLog, as_clip, measure
from tests.silhouette.synthetic_clips import Frames, Masks, walker, with_alpha
from video.frames import read_clip


def _animate(frames: Frames, masks: Masks) -> MeshSequence:
    clip = as_clip(with_alpha(frames, masks))
    return SilhouettePipeline().animate(clip, "fast_low_ram", 44, ReportLog())


def _is_red_somewhere(path: Path) -> bool:
    """Whether the mesh of a GLB has bright red vertices; the walker has none."""
    read = ReadGlb(path.read_bytes())
    (picture,) = read.tree["images"]
    encoded = np.frombuffer(read.view(picture["bufferView"]), np.uint8)
    pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert pixels is not None
    x, y = (read.attribute("TEXCOORD_0") * pixels.shape[1::-1]).astype(int).T
    blue, green, red = pixels[y.clip(0, len(pixels) - 1), x.clip(0, pixels.shape[1] - 1)].T
    return bool(((red > 200) & (green < 80) & (blue < 80)).any())


def test_a_mark_is_seen_in_the_files_of_the_frames_that_have_it(tmp_path: Path) -> None:
    frames, masks = walker()
    marked = [5, 6, 7]
    for t in marked:
        cv2.circle(frames[t], (63, 66), 6, (255, 0, 0), -1)  # on the body
    mesh = _animate(frames, masks)
    files = write_frames(mesh, vertex_normals(mesh), tmp_path)
    assert [t for t, path in enumerate(files) if _is_red_somewhere(path)] == marked
    write_animated(mesh, vertex_normals(mesh), tmp_path / "animated_mesh.glb")
    assert not _is_red_somewhere(tmp_path / "animated_mesh.glb")


def test_a_frame_that_looks_like_the_reference_has_no_picture_of_its_own() -> None:
    frames, masks = walker()
    still, noise = frames[[3] * 16], np.random.default_rng(0).normal(0, 3, (16, *frames.shape[1:]))
    mesh = _animate(np.clip(still + noise, 0, 255).astype(np.uint8), masks[[3] * 16])
    assert mesh.frame_textures == (None,) * 16


def test_a_frame_without_a_subject_has_no_picture_of_its_own() -> None:
    frames, masks = walker()
    masks[5] = False
    textures = _animate(frames, masks).frame_textures
    assert textures[5] is None
    assert textures[4] is not None


def test_eyes_are_open_in_the_meshes_of_frames_with_open_eyes(test_media: Path) -> None:
    clip, _ = read_clip(test_media / "field" / "F3b_blink.zip", "zip")
    mesh = SilhouettePipeline().animate(clip, "default", 44, ReportLog())
    eyes_open, eyes_closed = (0, 27), (3, 30)
    for t in (*eyes_open, *eyes_closed):
        own = mesh.texture_at(t)
        single = MeshSequence(mesh.vertices[[t]], mesh.faces, mesh.fps, texture=own)
        frame = as_clip(clip.frames[[t]])
        # 4 with its own picture, 13 to 23 with that of the whole clip
        assert measure(single, LabelledClip("", frame, frame.frames[..., 3] > 127)).photo < 8
