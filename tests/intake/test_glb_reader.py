"""An uploaded .glb is read exactly, or refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InvalidParameter
from intake.glb_reader import read_glb
from meshes.gltf import write_animated
from meshes.normals import vertex_normals
from tests.intake.glb_files import FACES, PICTURE, POINTS, UV, glb
from tests.meshes.animal_in_view import animal_in_view


def test_vertices_faces_uv_and_the_pictures_bytes_are_read(tmp_path: Path) -> None:
    (tmp_path / "mesh.glb").write_bytes(glb())
    upload = read_glb(tmp_path / "mesh.glb")
    assert np.array_equal(upload.vertices, POINTS)
    assert np.array_equal(upload.faces, FACES)
    assert upload.texture is not None
    assert upload.texture.image == PICTURE
    assert upload.texture.media_type == "image/png"
    assert np.array_equal(upload.texture.uv, UV)


def test_nodes_are_placed_turned_and_mirrored(tmp_path: Path) -> None:
    half = 0.5**0.5
    nodes: list[dict[str, Any]] = [
        {"children": [1, 2], "translation": [10, 0, 0]},
        {"mesh": 0, "rotation": [0, 0, half, half], "scale": [2, 2, 2]},
        {"mesh": 0, "scale": [-1, 1, 1]},
    ]
    (tmp_path / "mesh.glb").write_bytes(glb(nodes=nodes))
    upload = read_glb(tmp_path / "mesh.glb")
    turned = np.stack([-POINTS[:, 1], POINTS[:, 0], POINTS[:, 2]], axis=1) * 2 + [10, 0, 0]
    assert np.allclose(upload.vertices[:4], turned)
    assert np.allclose(upload.vertices[4:], POINTS * [-1, 1, 1] + [10, 0, 0])
    assert np.array_equal(upload.faces[:4], FACES)
    assert np.array_equal(upload.faces[4:], FACES[:, ::-1] + 4)


def test_trimesh_reads_the_same_from_the_same_file(tmp_path: Path) -> None:
    import trimesh

    path = tmp_path / "mesh.glb"
    trimesh.creation.icosphere(subdivisions=2).export(path)
    upload = read_glb(path)
    theirs = trimesh.load(path, force="mesh", process=False)
    assert np.allclose(upload.vertices, theirs.vertices)
    assert np.array_equal(upload.faces, theirs.faces)
    assert upload.texture is None and not upload.lost_textures


def quantized(change: dict[str, Any] | None = None) -> bytes:
    """The tetrahedron as gltfpack writes it: small integers, and transforms that undo them."""
    places = np.zeros((4, 4), np.uint16)  # three numbers, padded to the stride of 8
    places[:, :3] = POINTS * 16383
    uv = np.asarray(UV * 4095, np.uint16)
    transform = {"offset": [0, 0], "scale": [65535 / 4095] * 2}
    colour = {"index": 0, "extensions": {"KHR_texture_transform": transform}}
    views = [
        {"byteOffset": 0, "byteLength": 32, "byteStride": 8},
        {"byteOffset": 32, "byteLength": 24},
        {"byteOffset": 56, "byteLength": 16, "byteStride": 4},
        {"byteOffset": 72, "byteLength": len(PICTURE)},
    ]
    changes = {
        "extensionsRequired": ["KHR_mesh_quantization"],
        "nodes": [{"mesh": 0, "scale": [1 / 16383] * 3}],
        "bufferViews": [{"buffer": 0, **view} for view in views],
        "accessors": [
            {"bufferView": 0, "componentType": 5123, "count": 4, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"},
            {
                "bufferView": 2,
                "componentType": 5123,
                "count": 4,
                "type": "VEC2",
                "normalized": True,
            },
        ],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": colour}}],
        **(change or {}),
    }
    return glb(changes, binary=places.tobytes() + FACES.tobytes() + uv.tobytes() + PICTURE)


def test_quantized_meshes_are_read(tmp_path: Path) -> None:
    (tmp_path / "mesh.glb").write_bytes(quantized())
    upload = read_glb(tmp_path / "mesh.glb")
    assert np.allclose(upload.vertices, POINTS) and np.array_equal(upload.faces, FACES)
    assert upload.texture is not None and np.allclose(upload.texture.uv, UV, atol=1e-6)


def test_small_integers_need_the_extension(tmp_path: Path) -> None:
    (tmp_path / "mesh.glb").write_bytes(quantized({"extensionsRequired": []}))
    with pytest.raises(InvalidParameter, match="positions of a type"):
        read_glb(tmp_path / "mesh.glb")


def test_the_lowest_signed_fraction_is_minus_one(tmp_path: Path) -> None:
    points = np.array([[-128, -127, 0, 0], [127, 0, 0, 0], [0, 127, 0, 0], [0, 0, 127, 0]], np.int8)
    accessor = {"bufferView": 0, "count": 4, "type": "VEC3", "componentType": 5120}
    views = [
        {"buffer": 0, "byteOffset": 0, "byteLength": 16, "byteStride": 4},
        {"buffer": 0, "byteOffset": 16, "byteLength": 24},
    ]
    change = {
        "extensionsRequired": ["KHR_mesh_quantization"],
        "bufferViews": views,
        "accessors": [
            {**accessor, "normalized": True},
            {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
    }
    content = glb(change, binary=points.tobytes() + FACES.tobytes())
    (tmp_path / "mesh.glb").write_bytes(content)
    assert np.array_equal(read_glb(tmp_path / "mesh.glb").vertices[0], [-1, -1, 0])


@pytest.mark.parametrize(
    ("transform", "moved"),
    [
        ({"offset": [0.5, 0.25]}, UV + [0.5, 0.25]),
        ({"scale": [2, -1]}, UV * [2, -1]),
        # a quarter turn, counter-clockwise where v points down
        ({"rotation": np.pi / 2, "offset": [0, 1]}, np.stack([UV[:, 1], 1 - UV[:, 0]], axis=1)),
        (
            {"rotation": np.pi / 2, "scale": [2, 3]},
            np.stack([3 * UV[:, 1], -2 * UV[:, 0]], axis=1),
        ),
        ({"texCoord": 1}, 1 - UV),
    ],
)
def test_texture_coordinates_are_those_of_the_picture(
    tmp_path: Path, transform: dict[str, Any], moved: Any
) -> None:
    parts = [POINTS.tobytes(), FACES.tobytes(), UV.tobytes(), PICTURE, (1 - UV).tobytes()]
    lengths = [len(part) + -len(part) % 4 for part in parts]
    colour = {"index": 0, "extensions": {"KHR_texture_transform": transform}}
    attributes = {"POSITION": 0, "TEXCOORD_0": 2, "TEXCOORD_1": 3}
    views = [
        {"buffer": 0, "byteOffset": sum(lengths[:at]), "byteLength": len(part)}
        for at, part in enumerate(parts)
    ]
    uv = {"componentType": 5126, "count": 4, "type": "VEC2"}
    change = {
        "bufferViews": views,
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 1, "material": 0}]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": colour}}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"},
            {"bufferView": 2, **uv},
            {"bufferView": 4, **uv},
        ],
    }
    padded = b"".join(part + bytes(-len(part) % 4) for part in parts)
    (tmp_path / "mesh.glb").write_bytes(glb(change, binary=padded))
    upload = read_glb(tmp_path / "mesh.glb")
    assert upload.texture is not None and np.allclose(upload.texture.uv, moved, atol=1e-6)


@pytest.mark.parametrize("transform", [{"scale": [1]}, {"rotation": "1"}, {"offset": [0, 10**400]}])
def test_a_broken_texture_transform_is_refused(tmp_path: Path, transform: dict[str, Any]) -> None:
    colour = {"index": 0, "extensions": {"KHR_texture_transform": transform}}
    change = {"materials": [{"pbrMetallicRoughness": {"baseColorTexture": colour}}]}
    (tmp_path / "mesh.glb").write_bytes(glb(change))
    with pytest.raises(InvalidParameter, match="not a readable"):
        read_glb(tmp_path / "mesh.glb")


def test_a_texture_in_another_format_is_told_to_be_lost(tmp_path: Path) -> None:
    texture = {"extensions": {"EXT_texture_webp": {"source": 0}}}
    change = {"extensionsRequired": ["EXT_texture_webp"], "textures": [texture]}
    (tmp_path / "mesh.glb").write_bytes(glb(change))
    upload = read_glb(tmp_path / "mesh.glb")
    assert upload.texture is None and upload.lost_textures


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "compressed"),
        ({"buffers": [{"uri": "file:///etc/passwd", "byteLength": 9}]}, "another file"),
        ({"images": [{"uri": "https://example.org/a.png"}]}, "another file"),
        ({"images": [{"uri": "data:image/gif;base64,R0lGODlh"}]}, "neither PNG nor JPEG"),
        ({"scenes": [{"nodes": []}]}, "no triangles"),
        ({"nodes": [{"children": [0]}]}, "not a readable"),
        ({"accessors": []}, "not a readable"),
    ],
)
def test_unusable_files_are_refused_with_the_reason(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    (tmp_path / "mesh.glb").write_bytes(glb(change))
    with pytest.raises(InvalidParameter, match=why):
        read_glb(tmp_path / "mesh.glb")


def test_a_mesh_without_extent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mesh.glb").write_bytes(glb(nodes=[{"mesh": 0, "scale": [0, 0, 0]}]))
    with pytest.raises(InvalidParameter, match="no extent"):
        read_glb(tmp_path / "mesh.glb")


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("MAX_VERTICES", "more than 100 vertices"),
        ("MAX_FACES", "more than 100 triangles"),
        ("MAX_NODES", "has 201 nodes, 100 are allowed"),
    ],
)
def test_limits_count_every_use_of_a_mesh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, why: str
) -> None:
    monkeypatch.setattr(f"intake.glb_reader.{limit}", 100)
    nodes: list[dict[str, Any]] = [{"children": list(range(1, 201))}]
    nodes += [{"mesh": 0}] * 200
    (tmp_path / "mesh.glb").write_bytes(glb(nodes=nodes))
    with pytest.raises(InvalidParameter, match=why):
        read_glb(tmp_path / "mesh.glb")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_file_is_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(glb())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.glb"
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        upload = read_glb(path)
    except InvalidParameter:
        return
    assert upload.faces.max() < len(upload.vertices)


@pytest.mark.parametrize("is_orthographic", [False, True])
def test_a_result_with_the_videos_camera_can_be_sent_back(
    tmp_path: Path, is_orthographic: bool
) -> None:
    sequence = animal_in_view(2, is_moving=not is_orthographic, is_orthographic=is_orthographic)
    sequence = replace(sequence, has_baked_light=is_orthographic)
    assert sequence.texture is not None
    write_animated(sequence, vertex_normals(sequence), tmp_path / "animated_mesh.glb")
    upload = read_glb(tmp_path / "animated_mesh.glb")
    assert np.array_equal(upload.vertices, sequence.vertices[0])
    assert np.array_equal(upload.faces, sequence.faces)
    assert upload.texture is not None and upload.texture.image == sequence.texture.image
    assert upload.has_baked_light is is_orthographic
