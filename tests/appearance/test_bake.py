"""bake_texture: a body of known colours is drawn through a known view and painted again from that.

What is painted is drawn once more, from where the video was filmed and from the other side.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from appearance.bake import Baked, bake_texture, texture_size_px
from appearance.unwrap import Unwrapped, unwrap
from benchmarks.truth import load_truth
from meshes.sequence import MeshSequence
from meshes.texture import decode_texture, sample_texture
from meshes.view import View
from tests.appearance.drawn_clip import drawn_clip, view_from
from video.clip import Clip

pytest.importorskip("xatlas", reason="there is no xatlas for this platform")

SIZE_PX = 256
AZIMUTH = 60.0


def ignore(_: float = 0) -> None:
    pass


def body(timesteps: int = 3, rings: int = 40) -> MeshSequence:
    """A long body along Z that is its own mirror image in X: red head, green middle, blue end."""
    across, down = np.meshgrid(np.linspace(0, 1, rings), np.linspace(0, 1, rings))
    theta, phi = down.ravel() * np.pi, across.ravel() * 2 * np.pi
    x, y, z = np.sin(theta) * np.sin(phi), np.sin(theta) * np.cos(phi), np.cos(theta)
    points = np.stack([0.3 * x, 0.4 * y + 0.3 * np.maximum(z, 0) ** 2, z], -1).round(12) + 0.0
    poses = np.stack([points * (1, 1 + 0.05 * t, 1) for t in range(timesteps)])
    corner = (np.arange(rings - 1)[:, None] * rings + np.arange(rings - 1)).ravel()
    a, b, c, d = corner, corner + 1, corner + rings + 1, corner + rings
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    kind = np.digitize(z, (-0.3, 0.3))
    colors = np.array([(60, 60, 200, 255), (60, 160, 60, 255), (210, 60, 60, 255)], np.uint8)
    return MeshSequence(poses.astype(np.float32), faces.astype(np.int32), 8.0, colors[kind])


@lru_cache(maxsize=1)
def scene() -> tuple[MeshSequence, View, Clip, Unwrapped]:
    painted = body()
    view = view_from(painted, AZIMUTH, 10, size=(240, 200), focal=330)
    bare = replace(painted, colors=None)
    flat = unwrap(bare.vertices[0], bare.faces, SIZE_PX, subprocess.Popen, ignore)
    return bare, view, drawn_clip(painted, view), flat


@pytest.fixture(scope="module")
def baked() -> Baked:
    bare, view, clip, flat = scene()
    return bake_texture(bare, clip, view, flat, SIZE_PX, ignore)


def texture_of(baked: Baked) -> NDArray[np.uint8]:
    assert baked.meshes.texture is not None
    return decode_texture(baked.meshes.texture, 4096)


def drawn(baked: Baked, view: View) -> Clip:
    """The painted mesh, with the texture's colours at its vertices."""
    texture = baked.meshes.texture
    assert texture is not None
    rgb = sample_texture(texture_of(baked), texture.uv)
    rgba = np.pad(rgb, ((0, 0), (0, 1)), constant_values=255)
    return drawn_clip(replace(baked.meshes, texture=None, colors=rgba), view)


def differences(clip: Clip, other: Clip) -> NDArray[np.float64]:
    """Mean absolute differences of all pixels that both show."""
    shown = (clip.frames[..., 3] == 255) & (other.frames[..., 3] == 255)
    pairs = (frames[shown][:, :3].astype(float) for frames in (clip.frames, other.frames))
    return np.asarray(np.abs(next(pairs) - next(pairs)).mean(axis=1))


def test_what_the_video_shows_has_its_colours(baked: Baked) -> None:
    _, view, clip, _ = scene()
    off = differences(drawn(baked, view), clip)
    assert np.median(off) < 3 and off.mean() < 8


def test_the_side_that_no_frame_shows_is_mirrored(baked: Baked) -> None:
    _, view, _, _ = scene()
    painted = body()
    hidden = view_from(painted, AZIMUTH + 180, 10, size=(240, 200), focal=330)
    off = differences(drawn(baked, hidden), drawn_clip(painted, hidden))
    assert np.median(off) < 25 and off.mean() < 30  # two colours differ by 80 to 100
    assert baked.mirrored > 0.2


def test_the_shares_of_the_surface_sum_to_one(baked: Baked) -> None:
    assert baked.seen + baked.mirrored + baked.filled == pytest.approx(1)
    assert 0.25 < baked.seen < 0.5 and baked.filled >= 0


def test_no_part_of_the_texture_is_black(baked: Baked) -> None:
    assert texture_of(baked).max(axis=2).min() > 50


def test_colours_under_transparent_pixels_are_never_used(baked: Baked) -> None:
    """The bytes are equal, which they are only if the same bake twice is the same, too."""
    bare, view, clip, flat = scene()
    frames = clip.frames.copy()
    frames[frames[..., 3] == 0, :3] = (255, 0, 255)
    again = bake_texture(bare, replace(clip, frames=frames), view, flat, SIZE_PX, ignore)
    assert again.meshes.texture is not None and baked.meshes.texture is not None
    assert again.meshes.texture.image == baked.meshes.texture.image


def test_vertices_are_those_of_the_mesh_bit_for_bit(baked: Baked) -> None:
    bare, view, _, flat = scene()
    assert (baked.meshes.vertices == bare.vertices[:, flat.vertex_map]).all()
    assert (baked.meshes.faces == flat.faces).all()
    assert baked.meshes.view is view and baked.meshes.fps == bare.fps
    assert baked.meshes.texture is not None
    assert len(baked.meshes.texture.image) < 64 * 1024


def test_progress_only_grows_and_an_exception_ends_the_bake() -> None:
    bare, view, clip, flat = scene()
    seen: list[float] = []

    def report(done: float) -> None:
        assert 0 <= done <= 1 and done >= max(seen, default=0)
        seen.append(done)
        if done > 0.9:
            raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        bake_texture(bare, clip, view, flat, SIZE_PX, report)
    assert len(seen) > 30


def test_a_clip_without_a_subject_is_painted_in_one_colour() -> None:
    bare, view, clip, flat = scene()
    empty = Clip(np.zeros_like(clip.frames), clip.fps, clip.source)
    baked = bake_texture(bare, empty, view, flat, SIZE_PX, ignore)
    assert baked.seen == 0 and baked.mirrored == 0 and baked.filled == 1


def test_large_frames_ask_for_a_large_texture() -> None:
    bare, view, clip, _ = scene()
    assert texture_size_px(bare, clip, view) == 1024
    larger = Clip(np.zeros((3, 2000, 2400, 4), np.uint8), clip.fps, clip.source)
    assert texture_size_px(bare, larger, view) == 2048


def test_a_robot_is_painted_as_it_was_filmed(test_media: Path) -> None:
    truth = load_truth(test_media, "robot_wave")
    view = replace(truth.view, eyes=truth.view.eyes[:4])
    clip = replace(truth.clip, frames=truth.clip.frames[:4])
    bare = MeshSequence(truth.meshes.vertices[:4], truth.meshes.faces, clip.fps)
    flat = unwrap(bare.vertices[0], bare.faces, 512, subprocess.Popen, ignore)
    baked = bake_texture(bare, clip, view, flat, 512, ignore)
    off = differences(drawn(baked, view), clip)
    assert off.mean() < 13  # drawn with one colour a face; one colour for all is off by 30
    assert 0.1 < baked.seen < 0.4
