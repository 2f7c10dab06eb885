"""GLB files that lie: every number, type, bound and product is checked before it is used."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from errors import InvalidParameter
from intake.glb import check_glb
from intake.glb_reader import read_glb
from tests.intake.glb_files import (
    FACES,
    PICTURE,
    POINTS,
    UV,
    bomb,
    changed,
    glb,
    packed,
    stride_of_one,
)

WRONG_NUMBERS = [-1, 1e999, float("nan"), 0.5, True, False, "1", None, [], {}, 1 << 70, -(1 << 31)]
PLACES = [
    *(f"accessors.{k}.{key}" for k in range(3) for key in ("count", "bufferView", "byteOffset")),
    *(f"bufferViews.{k}.{key}" for k in range(3) for key in ("byteOffset", "byteLength", "buffer")),
    *("bufferViews.0.byteStride", "buffers.0.byteLength", "nodes.0.mesh", "scenes.0.nodes.0"),
    *("meshes.0.primitives.0.indices", "meshes.0.primitives.0.attributes.POSITION", "scene"),
    *("meshes.0.primitives.0.mode", "meshes.0.primitives.0.material", "textures.0.source"),
    *("images.0.bufferView", "accessors.0.componentType"),
]


@pytest.mark.parametrize("place", PLACES)
def test_no_number_of_the_document_is_believed(place: str, tmp_path: Path) -> None:
    for wrong in WRONG_NUMBERS:
        (tmp_path / "mesh.glb").write_bytes(changed(place, wrong))
        with pytest.raises(InvalidParameter):
            read_glb(tmp_path / "mesh.glb")


@pytest.mark.parametrize("key", ["matrix", "translation", "rotation", "scale"])
def test_transforms_are_finite_numbers_of_the_right_length(key: str, tmp_path: Path) -> None:
    size = {"matrix": 16, "rotation": 4}.get(key, 3)
    for wrong in (1e999, float("nan"), 10**400, True, "1", None, [1]):
        for values in ([wrong] * size, [1] * (size - 1), [1] * (size + 1), wrong):
            (tmp_path / "mesh.glb").write_bytes(changed(f"nodes.0.{key}", values))
            with pytest.raises(InvalidParameter):
                read_glb(tmp_path / "mesh.glb")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("accessors.0.componentType", 5123), "positions of a type"),
        (("accessors.0.type", "VEC2"), "positions of a type"),
        (("accessors.0.normalized", True), "positions of a type"),
        (("accessors.1.componentType", 5126), "indices of a type"),
        (("accessors.1.componentType", 5122), "indices of a type"),
        (("accessors.1.type", "VEC3"), "indices of a type"),
        (("accessors.2.componentType", 5123), "texture coordinates of a type"),
        (("accessors.2.type", "VEC4"), "texture coordinates of a type"),
        (("bufferViews.0.byteStride", 1), "byteStride is not"),
        (("bufferViews.0.byteStride", 8), "smaller than its element"),
        (("bufferViews.0.byteStride", 14), "multiple of four"),
        (("bufferViews.0.byteStride", 256), "byteStride is not"),
        (("bufferViews.0.byteStride", 16), "past the end"),
        (("bufferViews.0.byteOffset", 2), "not aligned"),
        (("accessors.0.count", 200_001), "more than 200000 positions"),
        (("accessors.1.count", 13), "past the end"),
        (("accessors.0.sparse", {"count": 1}), "sparse"),
        (("accessors.2.count", 3), "another number of vertices"),
        (("extensionsRequired", ["EXT_meshopt_compression"]), "EXT_meshopt_compression"),
        (("extensionsRequired", ["EXT_mesh_gpu_instancing"]), "EXT_mesh_gpu_instancing"),
        (("images.0", {"uri": "data:image/png;base64,iVBORw0KGgo="}), "broken texture"),
        (("nodes.0.translation", [1e31, 0, 0]), "far too large"),
        (("nodes.0.scale", [1, 0, 0]), "no triangle with an area"),
    ],
)  # fmt: skip
def test_each_accessor_holds_only_what_its_use_allows(
    change: tuple[str, Any], why: str, tmp_path: Path
) -> None:
    (tmp_path / "mesh.glb").write_bytes(changed(*change))
    with pytest.raises(InvalidParameter, match=why):
        read_glb(tmp_path / "mesh.glb")


@pytest.mark.parametrize("index", [4, 255, 65_535])
def test_an_index_past_the_last_vertex_is_refused(index: int, tmp_path: Path) -> None:
    content = glb()
    at = content.index(FACES.tobytes())
    (tmp_path / "mesh.glb").write_bytes(content[:at] + struct.pack("<H", index) + content[at + 2 :])
    with pytest.raises(InvalidParameter, match="past the last vertex"):
        read_glb(tmp_path / "mesh.glb")


def test_strided_and_normalised_attributes_are_read(tmp_path: Path) -> None:
    mixed = b"".join(
        struct.pack("<3f2H", *point, *(round(65_535 * one) for one in uv))
        for point, uv in zip(POINTS.tolist(), UV.tolist(), strict=True)
    )
    binary = mixed + FACES.tobytes()
    content = changed(
        "bufferViews",
        [
            {"buffer": 0, "byteLength": len(mixed), "byteStride": 16},
            {"buffer": 0, "byteOffset": len(mixed), "byteLength": 24},
        ],
        ("buffers.0.byteLength", len(binary)),
        ("accessors.2", {"bufferView": 0, "byteOffset": 12, "componentType": 5123, "count": 4,
                         "type": "VEC2", "normalized": True}),
        ("images.0", {"uri": "data:image/png;base64," + base64.b64encode(PICTURE).decode()}),
    )  # fmt: skip
    (length,) = struct.unpack_from("<I", content, 12)
    chunk = struct.pack("<I4s", len(binary), b"BIN\0") + binary
    (tmp_path / "mesh.glb").write_bytes(packed(content[20 : 20 + length], chunk))
    upload = read_glb(tmp_path / "mesh.glb")
    assert np.array_equal(upload.vertices, POINTS) and np.array_equal(upload.faces, FACES)
    assert upload.texture is not None and np.array_equal(upload.texture.uv, UV)
    assert upload.texture.image == PICTURE


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (lambda: bomb(1_000, 10_000), "more than 10000 parts"),
        (lambda: bomb(10_000, 20_000), "more than 10000 parts"),
        (lambda: bomb(10_001, 1), "has 10001 nodes"),
        (lambda: changed("nodes.0.children", [[0]] * 10_001), "more children"),
        (lambda: changed("scenes.0.nodes", [0] * 500_000), "two parents|more"),
        (lambda: packed(b'{"a":' * 100_000, b""), "nests its description too deeply"),
        (lambda: packed(b"[" + b"0," * 3_000_000 + b"0]", b""), "more than 2000000 values"),
        (lambda: packed(b'{"a":1' + b"0" * 5_000 + b"}", b""), "not a readable"),
        (lambda: packed(b'{"nodes":NaN}', b""), "not a readable"),
        (lambda: packed(b"[]", b""), "not a readable"),
        (lambda: packed('{"nodes":1}'.encode("utf-16"), b""), "not a readable"),
        (lambda: stride_of_one(40_000_000), "byteStride is not"),
    ],
)  # fmt: skip
def test_bombs_are_refused_within_the_limits_of_the_sandbox(
    content: Callable[[], bytes], why: str, tmp_path: Path
) -> None:
    (tmp_path / "mesh.glb").write_bytes(content())
    with pytest.raises(InvalidParameter, match=why):
        check_glb(tmp_path / "mesh.glb")


def test_a_texture_that_the_job_could_not_decode_is_refused(tmp_path: Path) -> None:
    data_at = PICTURE.index(b"IDAT") + 4
    broken = PICTURE[:data_at] + b"\0\0" + PICTURE[data_at + 2 :]
    (tmp_path / "mesh.glb").write_bytes(glb().replace(PICTURE, broken))
    with pytest.raises(InvalidParameter, match="cannot be decoded"):
        check_glb(tmp_path / "mesh.glb")
    (tmp_path / "mesh.glb").write_bytes(glb())
    check_glb(tmp_path / "mesh.glb")


def test_the_given_file_with_float_and_negative_indices_is_refused(test_media: Path) -> None:
    with pytest.raises(InvalidParameter, match="indices of a type"):
        check_glb(test_media / "hostile2" / "glb_float_negative_indices.glb")


def test_the_largest_mesh_is_read_within_the_limits_of_the_sandbox(tmp_path: Path) -> None:
    points = np.random.default_rng(1).random((200_000, 3), np.float32)
    faces = np.random.default_rng(2).integers(0, 200_000, (1_000_000, 3), np.uint32)
    binary = points.tobytes() + faces.tobytes()
    content = changed(
        "bufferViews",
        [
            {"buffer": 0, "byteLength": points.nbytes},
            {"buffer": 0, "byteOffset": points.nbytes, "byteLength": faces.nbytes},
        ],
        ("buffers.0.byteLength", len(binary)),
        ("accessors.0.count", 200_000),
        ("accessors.1", {"bufferView": 1, "componentType": 5125, "count": 3_000_000,
                         "type": "SCALAR"}),
        ("meshes.0.primitives", [{"attributes": {"POSITION": 0}, "indices": 1}]),
    )  # fmt: skip
    (length,) = struct.unpack_from("<I", content, 12)
    chunk = struct.pack("<I4s", len(binary), b"BIN\0") + binary
    path = tmp_path / "mesh.glb"
    path.write_bytes(packed(content[20 : 20 + length], chunk))
    check_glb(path)
    assert np.array_equal(read_glb(path).faces, faces)
