"""An uploaded .glb is read exactly, or refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InvalidParameter
from intake.glb_reader import read_glb
from tests.intake.glb_files import FACES, PICTURE, POINTS, UV, glb


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
