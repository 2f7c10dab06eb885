"""GLB files hold exactly the given vertices, faces and texture bytes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from meshes.gltf import (
    LARGEST_FRAME_TEXTURE_BYTES,
    animated_glb,
    frame_glb,
    write_animated,
    write_frames,
)
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence, Texture
from tests.meshes.glb_reader import ReadGlb, signed_volume
from tests.meshes.walking_animal import walking_animal

KINDS = ("plain", "coloured", "textured")


def small(timesteps: int = 3, kind: str = "plain") -> MeshSequence:
    return walking_animal(timesteps, rings=14, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_holds_its_timestep_bit_for_bit(kind: str) -> None:
    sequence = small(kind=kind)
    normals = vertex_normals(sequence)
    for k in range(len(sequence)):
        read = ReadGlb(frame_glb(sequence, k, normals))
        assert np.array_equal(read.attribute("POSITION"), sequence.vertices[k])
        assert np.array_equal(read.attribute("NORMAL"), normals[k])
        assert np.array_equal(read.faces, sequence.faces)
        assert "targets" not in read.primitive and "animations" not in read.tree


@pytest.mark.parametrize("timesteps", [2, 16, 31])
@pytest.mark.parametrize("kind", KINDS)
def test_every_timestep_of_the_animation_equals_its_own_mesh(kind: str, timesteps: int) -> None:
    sequence = small(timesteps, kind)
    normals = vertex_normals(sequence)
    moving = ReadGlb(animated_glb(sequence, normals))
    assert np.array_equal(moving.attribute("POSITION"), sequence.vertices[0])
    assert np.array_equal(moving.faces, sequence.faces)
    assert len(moving.primitive["targets"]) == timesteps - 1
    for k in range(timesteps):
        still = ReadGlb(frame_glb(sequence, k, normals))
        difference = moving.morphed("POSITION", k) - still.attribute("POSITION")
        assert np.abs(difference).max() <= 1e-6
        assert np.abs(moving.morphed("NORMAL", k) - still.attribute("NORMAL")).max() <= 1e-6


def test_the_animation_shows_timestep_k_at_k_over_fps_seconds() -> None:
    sequence = replace(small(5), fps=12.5)
    read = ReadGlb(animated_glb(sequence, vertex_normals(sequence)))
    (animation,) = read.tree["animations"]
    (channel,), (sampler,) = animation["channels"], animation["samplers"]
    assert channel == {"sampler": 0, "target": {"node": 0, "path": "weights"}}
    assert sampler["interpolation"] == "LINEAR"
    assert np.allclose(read.array(sampler["input"]), np.arange(5) / 12.5)
    assert np.array_equal(read.array(sampler["output"]).reshape(5, 4), np.eye(5)[:, 1:])
    assert read.tree["meshes"][0]["weights"] == [0.0] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_one_timestep_gives_a_plain_mesh(kind: str) -> None:
    sequence = small(1, kind)
    read = ReadGlb(animated_glb(sequence, vertex_normals(sequence)))
    assert np.array_equal(read.attribute("POSITION"), sequence.vertices[0])
    assert "animations" not in read.tree and "weights" not in read.tree["meshes"][0]


def test_nothing_is_mirrored_or_turned() -> None:
    # four corners at different distances along +X, +Y, +Z: no mirror image or turn fits
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 0.6, 0], [0, 0, 0.3]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
    sequence = MeshSequence(np.stack([corners, corners * np.float32(0.5)]), faces, 8)
    normals = vertex_normals(sequence)
    moving = ReadGlb(animated_glb(sequence, normals))
    for k in range(2):
        still = ReadGlb(frame_glb(sequence, k, normals))
        for vertices in (still.attribute("POSITION"), moving.morphed("POSITION", k)):
            assert np.array_equal(vertices.max(axis=0), corners.max(axis=0) * 0.5**k)
            assert signed_volume(vertices, moving.faces) == pytest.approx(0.03 * 0.125**k)
    for tree in (moving.tree, still.tree):
        assert not {"matrix", "rotation", "scale", "translation"} & set(tree["nodes"][0])


def test_the_volume_is_positive_in_every_timestep() -> None:
    sequence = small(16)
    normals = vertex_normals(sequence)
    moving = ReadGlb(animated_glb(sequence, normals))
    for k in range(16):
        still = ReadGlb(frame_glb(sequence, k, normals)).attribute("POSITION")
        volume = signed_volume(still, sequence.faces)
        assert volume > 0
        assert signed_volume(moving.morphed("POSITION", k), moving.faces) == pytest.approx(volume)


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
def test_the_texture_is_stored_once_and_unchanged(media_type: str) -> None:
    sequence = small(kind="textured")
    assert sequence.texture
    image = sequence.texture.image
    if media_type == "image/png":
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        image = cv2.imencode(".png", cv2.resize(pixels, (64, 64)))[1].tobytes()
    sequence = replace(sequence, texture=Texture(image, media_type, sequence.texture.uv))
    for content in (
        animated_glb(sequence, vertex_normals(sequence)),
        frame_glb(sequence, 1, vertex_normals(sequence)),
    ):
        read = ReadGlb(content)
        (picture,) = read.tree["images"]
        assert read.view(picture["bufferView"]) == image
        assert picture["mimeType"] == media_type
        assert content.count(image) == 1
        assert sequence.texture is not None
        assert np.array_equal(read.attribute("TEXCOORD_0"), sequence.texture.uv)


def test_colours_are_read_back_unchanged() -> None:
    sequence = small(kind="coloured")
    read = ReadGlb(frame_glb(sequence, 0, vertex_normals(sequence)))
    assert sequence.colors is not None
    assert np.array_equal(read.attribute("COLOR_0"), sequence.colors)
    assert read.tree["accessors"][read.primitive["attributes"]["COLOR_0"]]["normalized"] is True


@pytest.mark.parametrize("kind", KINDS)
def test_trimesh_reads_the_same_mesh(kind: str) -> None:
    sequence = small(kind=kind)
    content = animated_glb(sequence, vertex_normals(sequence))
    # trimesh forgets the colours of a mesh that has a material, so it is told to skip materials
    options = {"file_type": "glb", "force": "mesh", "process": False, "skip_materials": True}
    loaded = trimesh.load(io.BytesIO(content), **options)
    assert np.array_equal(np.asarray(loaded.vertices, np.float32), sequence.vertices[0])
    assert np.array_equal(loaded.faces, sequence.faces)
    if sequence.colors is not None:
        assert np.array_equal(loaded.visual.vertex_colors, sequence.colors)


@pytest.mark.parametrize("kind", KINDS)
def test_the_material_is_matt_and_the_generator_is_named(kind: str) -> None:
    sequence = small(kind=kind)
    facts = {"pipeline": "silhouette", "seed": 44}
    tree = ReadGlb(animated_glb(sequence, vertex_normals(sequence), facts)).tree
    (material,) = tree["materials"]
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0
    assert material["doubleSided"] is True
    assert tree["asset"]["generator"] == "ActionMesh Worker"
    assert tree["asset"]["extras"] == {"timesteps": 3, "fps": 8.0, **facts}
    assert "extensionsUsed" not in tree


@pytest.mark.parametrize("kind", ["coloured", "textured"])
def test_colours_that_hold_the_videos_light_get_no_other(kind: str, tmp_path: Path) -> None:
    sequence = replace(small(2, kind), has_baked_light=True)
    normals = vertex_normals(sequence)
    write_animated(sequence, normals, tmp_path / "animated_mesh.glb")
    write_frames(sequence, normals, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    for path in tmp_path.iterdir():
        tree = ReadGlb(path.read_bytes()).tree
        (material,) = tree["materials"]
        assert material["extensions"] == {"KHR_materials_unlit": {}}
        assert tree["extensionsUsed"] == ["KHR_materials_unlit"]
        assert "extensionsRequired" not in tree  # other readers show a matt surface
        assert material["pbrMetallicRoughness"]["roughnessFactor"] == 1


def test_more_than_65535_vertices_get_longer_indices() -> None:
    sequence = walking_animal(1, rings=257, kind="plain")
    read = ReadGlb(animated_glb(sequence, vertex_normals(sequence)))
    assert read.faces.dtype == np.uint32
    assert np.array_equal(read.faces, sequence.faces)


def test_files_are_written_in_order_with_progress(tmp_path: Path) -> None:
    sequence = small(kind="textured")
    steps: list[tuple[int, int]] = []
    normals = vertex_normals(sequence)
    paths = write_frames(sequence, normals, tmp_path, None, lambda *step: steps.append(step))
    assert [path.name for path in paths] == ["mesh_000.glb", "mesh_001.glb", "mesh_002.glb"]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert paths[1].read_bytes() == frame_glb(sequence, 1, normals)
    write_animated(sequence, normals, tmp_path / "animated_mesh.glb")
    assert (tmp_path / "animated_mesh.glb").read_bytes() == animated_glb(sequence, normals)


def test_a_heavy_texture_becomes_vertex_colours_in_the_single_frames(tmp_path: Path) -> None:
    sequence = small(1, kind="textured")
    assert sequence.texture
    pixels = np.random.default_rng(0).integers(0, 255, (512, 512, 3)).astype(np.uint8)
    pixels[:, :256] = (0, 0, 255)  # the left half red, in OpenCV's order
    image = cv2.imencode(".png", pixels)[1].tobytes()
    assert len(image) > LARGEST_FRAME_TEXTURE_BYTES / 2
    image += b"\0" * (LARGEST_FRAME_TEXTURE_BYTES + 1 - len(image))
    sequence = replace(sequence, texture=Texture(image, "image/png", sequence.texture.uv))
    (path,) = write_frames(sequence, vertex_normals(sequence), tmp_path)
    read = ReadGlb(path.read_bytes())
    assert "images" not in read.tree
    assert sequence.texture is not None
    left = sequence.texture.uv[:, 0] < 0.45
    assert np.array_equal(np.unique(read.attribute("COLOR_0")[left], axis=0), [[255, 0, 0, 255]])
    moving = ReadGlb(animated_glb(sequence, vertex_normals(sequence)))
    assert moving.view(moving.tree["images"][0]["bufferView"]) == image


def _with_own_textures(sequence: MeshSequence) -> MeshSequence:
    """Timestep 1 has a green picture of its own, with its own places on it."""
    assert sequence.texture
    green = np.full((8, 8, 3), (0, 255, 0), np.uint8)
    image, uv = cv2.imencode(".png", green)[1].tobytes(), sequence.texture.uv[::-1].copy()
    return replace(sequence, frame_textures=(None, Texture(image, "image/png", uv), None))


def test_a_timestep_with_its_own_texture_has_it_in_its_own_file_only(tmp_path: Path) -> None:
    sequence = _with_own_textures(small(kind="textured"))
    normals = vertex_normals(sequence)
    write_frames(sequence, normals, tmp_path)
    write_animated(sequence, normals, tmp_path / "animated_mesh.glb")
    usual, own = sequence.texture, sequence.frame_textures[1]
    assert usual and own
    for name, texture in {
        "mesh_000": usual,
        "mesh_001": own,
        "mesh_002": usual,
        "animated_mesh": usual,
    }.items():
        read = ReadGlb((tmp_path / f"{name}.glb").read_bytes())
        (picture,) = read.tree["images"]
        assert read.view(picture["bufferView"]) == texture.image
        assert np.array_equal(read.attribute("TEXCOORD_0"), texture.uv)


def test_a_checkpoint_keeps_the_textures_of_single_timesteps(tmp_path: Path) -> None:
    for sequence in (small(kind="textured"), _with_own_textures(small(kind="textured"))):
        sequence.save(tmp_path / "meshes.npz")
        loaded = MeshSequence.load(tmp_path / "meshes.npz")
        assert len(loaded.frame_textures) == len(sequence.frame_textures)
        for k in range(len(sequence)):
            was, now = sequence.texture_at(k), loaded.texture_at(k)
            assert was and now
            assert (now.image, now.media_type) == (was.image, was.media_type)
            assert np.array_equal(now.uv, was.uv)


@pytest.mark.parametrize("has_baked_light", [False, True])
def test_a_checkpoint_keeps_whether_light_is_baked_in(
    tmp_path: Path, has_baked_light: bool
) -> None:
    replace(small(1), has_baked_light=has_baked_light).save(tmp_path / "meshes.npz")
    assert MeshSequence.load(tmp_path / "meshes.npz").has_baked_light is has_baked_light


def test_own_textures_that_do_not_match_are_refused() -> None:
    sequence = _with_own_textures(small(kind="textured"))
    own = sequence.frame_textures
    assert own[1]
    with pytest.raises(ValueError, match="3 timesteps have a texture"):
        replace(sequence, frame_textures=own[:2])
    with pytest.raises(ValueError, match="3 timesteps have a texture"):
        replace(sequence, texture=None)
    short = replace(own[1], uv=own[1].uv[1:])
    with pytest.raises(ValueError, match="uv must be"):
        replace(sequence, frame_textures=(None, short, None))


def _broken(sequence: MeshSequence, value: float) -> MeshSequence:
    """A sequence that was valid when it was created and is changed afterwards."""
    sequence.vertices[-1, 5, 1] = value
    return sequence


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_coordinate_that_is_not_finite_leaves_no_file(tmp_path: Path, value: float) -> None:
    sequence = small(3)
    normals = vertex_normals(sequence)
    broken = _broken(sequence, value)
    with pytest.raises(ValueError, match="not finite"):
        write_frames(broken, normals, tmp_path)
    with pytest.raises(ValueError, match="not finite"):
        write_animated(broken, normals, tmp_path / "animated_mesh.glb")
    assert list(tmp_path.iterdir()) == []


def test_differences_beyond_float32_are_refused() -> None:
    vertices = np.zeros((2, 3, 3), np.float32)
    vertices[0], vertices[1] = 3e38, -3e38
    sequence = MeshSequence(vertices, np.array([[0, 1, 2]], np.int32), 8)
    with pytest.raises(ValueError, match="not finite"):
        animated_glb(sequence, vertex_normals(sequence))


def test_a_texture_of_another_type_is_refused() -> None:
    sequence = small(kind="textured")
    assert sequence.texture
    normals = vertex_normals(sequence)
    uv = sequence.texture.uv
    for texture, message in (
        (Texture(b"GIF89a", "image/gif", uv), "not 'image/gif'"),
        (Texture(b"GIF89a", "image/png", uv), "bytes are not image/png"),
        (Texture(sequence.texture.image, "image/jpeg", uv * np.float32(np.nan)), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            frame_glb(replace(sequence, texture=texture), 0, normals)


def test_arguments_that_do_not_match_are_refused() -> None:
    sequence = small()
    normals = vertex_normals(sequence)
    with pytest.raises(ValueError, match="timestep 3 is not one of 3"):
        frame_glb(sequence, 3, normals)
    with pytest.raises(ValueError, match="normals must be float32"):
        animated_glb(sequence, normals[:2])
    with pytest.raises(ValueError, match="plain JSON"):
        animated_glb(sequence, normals, {"pipeline": object()})
    with pytest.raises(ValueError):
        animated_glb(sequence, normals, {"loss": float("nan")})


@st.composite
def sequences(draw: st.DrawFn) -> MeshSequence:
    timesteps, vertices = draw(st.integers(1, 5)), draw(st.integers(3, 12))
    inside = st.floats(-1, 1, width=32)
    places = draw(hnp.arrays(np.float32, (timesteps, vertices, 3), elements=inside))
    faces = draw(
        hnp.arrays(
            np.int32,
            st.tuples(st.integers(1, 20), st.just(3)),
            elements=st.integers(0, vertices - 1),
        )
    )
    colors = draw(st.none() | hnp.arrays(np.uint8, (vertices, 4)))
    return MeshSequence(places, faces, draw(st.floats(0.1, 240)), colors=colors)


@given(sequences())
def test_any_mesh_is_read_back_unchanged(sequence: MeshSequence) -> None:
    normals = vertex_normals(sequence)
    assert np.allclose(np.linalg.norm(normals, axis=2), 1, atol=1e-5)
    read = ReadGlb(animated_glb(sequence, normals))
    assert np.array_equal(read.faces, sequence.faces)
    assert np.array_equal(read.attribute("POSITION"), sequence.vertices[0])
    if sequence.colors is not None:
        assert np.array_equal(read.attribute("COLOR_0"), sequence.colors)
    for k in range(len(sequence)):
        assert np.abs(read.morphed("POSITION", k) - sequence.vertices[k]).max() <= 1e-6
        assert np.abs(read.morphed("NORMAL", k) - normals[k]).max() <= 1e-6
