"""Corpus `glbs`: glTF files whose description and data contradict each other, through both readers.

The description is changed as a tree of values and the data as numbers, so that one lie leaves the
rest sound; some bytes are changed afterwards. A file may only be refused as `invalid_parameter`,
and what the sandbox accepts must be read in the job, to a mesh that the later stages can hold.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from errors import InvalidParameter
from intake.glb import check_glb
from intake.glb_reader import MAX_FACES, MAX_VERTICES, read_glb
from meshes.sequence import MeshSequence
from meshes.texture import check_texture
from tests.faults.fuzz.file_corpus import run_files
from tests.faults.fuzz.findings import Findings
from tests.faults.fuzz.videos import change_bytes
from tests.faults.processes import rss_mb
from tests.intake.glb_files import FACES, PICTURE, POINTS, UV, glb

MOST_GROWTH_MB = 60.0
_TYPES = ("SCALAR", "VEC2", "VEC3", "VEC4", "MAT2", "MAT3", "MAT4", "VEC5", "")
_COMPONENTS = (5120, 5121, 5122, 5123, 5124, 5125, 5126, 5130, 0)
_VALUES: tuple[Any, ...] = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 16, 48, 252, 253, 255, 256, 65_535, 200_000, 200_001),
    *(-1, -4, -(1 << 31), 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 63, 1 << 70, 10**400),
    *(0.5, 4.0, -0.0, 1e-320, 1e30, 1e39, 1e308, float("nan"), float("inf")),
    *(True, False, None, "", "0", "SCALAR", "\ud800", [], [0], [[]], {}, {"a": 1}),
)
_EXTENSIONS: tuple[Any, ...] = (
    *("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_materials_unlit"),
    *("EXT_mesh_gpu_instancing", "KHR_mesh_quantization", "x", 1, []),
)
_ADDRESSES = (
    *("file:///etc/passwd", "http://127.0.0.1/", "../x.png", "data:", "data:,x", "data:;base64,!"),
    *("data:image/png;base64,iVBORw0KGgo=", "data:image/png;base64,"),
)
_NUMBERS = (float("nan"), float("inf"), -1e38, 3e38, 1e-45, 0.0, -1.0, 1e30)
Document = dict[str, Any]


def run(count: int, seed: int, tell: Callable[[str], None]) -> Findings:
    """Try `count` files."""
    chance = random.Random(seed)
    made_from = bases()
    sound = packed(*made_from[0])
    findings = Findings("glbs", seed, tell)
    return run_files(findings, count, lambda: made(chance, made_from), try_glb, sound)


def bases() -> list[tuple[Document, bytes]]:
    """Sound files of several forms: description and binary chunk."""
    document, binary = parts_of(glb())
    bare = copy.deepcopy(document)
    bare["meshes"] = [{"primitives": [{"attributes": {"POSITION": 0}}]}]
    tree = copy.deepcopy(document)
    tree["nodes"] = [{"children": [1, 2], "translation": [1, 2, 3]},
                     {"mesh": 0, "scale": [-1, 1, 1]},
                     {"mesh": 0, "rotation": [0, 0, 0.7071, 0.7071], "children": [3]},
                     {"mesh": 0, "matrix": np.eye(4).ravel().tolist()}]  # fmt: skip
    linked = copy.deepcopy(document)
    linked["images"] = [{"uri": "data:image/png;base64," + base64.b64encode(PICTURE).decode()}]
    rows = [struct.pack("<3f2H", *point, *(round(65_535 * x) for x in uv))
            for point, uv in zip(POINTS.tolist(), UV.tolist(), strict=True)]  # fmt: skip
    mixed = copy.deepcopy(linked)
    mixed["bufferViews"] = [{"buffer": 0, "byteLength": 64, "byteStride": 16},
                            {"buffer": 0, "byteOffset": 64, "byteLength": 24}]  # fmt: skip
    mixed["buffers"] = [{"byteLength": 88}]
    mixed["accessors"][2] = {"bufferView": 0, "byteOffset": 12, "componentType": 5123, "count": 4,
                             "type": "VEC2", "normalized": True}  # fmt: skip
    interleaved = b"".join(rows) + FACES.tobytes()
    return [(document, binary), (bare, binary), (tree, binary), (linked, binary),
            (mixed, interleaved)]  # fmt: skip


def parts_of(content: bytes) -> tuple[Document, bytes]:
    (length,) = struct.unpack_from("<I", content, 12)
    return json.loads(content[20 : 20 + length]), content[28 + length :]


def packed(document: Document | bytes, binary: bytes, head: tuple[int, ...] = ()) -> bytes:
    """A GLB file; `head` replaces version, length, length of the JSON, length of the data."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    sizes = [2, 28 + len(text) + len(binary), len(text), len(binary)]
    for k, value in zip(head[::2], head[1::2], strict=True):
        sizes[k] = value
    version, whole, first, second = sizes
    return (struct.pack("<4sIII4s", b"glTF", version, whole, first, b"JSON") + text
            + struct.pack("<I4s", second, b"BIN\0") + binary)  # fmt: skip


def made(chance: random.Random, made_from: list[tuple[Document, bytes]]) -> bytes:
    """A file with up to four changes, and sometimes a few to its bytes."""
    document, binary = copy.deepcopy(chance.choice(made_from))
    for _ in range(chance.choice((0, 1, 1, 1, 1, 2, 4))):
        how = chance.random()
        if how < 0.6:
            # an earlier change may have put something else where this one expects a list
            with contextlib.suppress(TypeError, ValueError, AttributeError, LookupError):
                chance.choice(_CHANGES)(chance, document)
        elif how < 0.9:
            binary = _other_numbers(chance, binary)
        else:
            binary = binary[: chance.randrange(len(binary) + 1)] + bytes(chance.choice((0, 1, 4)))
    text = _other_text(chance, document) if chance.random() < 0.1 else document
    head = (chance.randrange(4), chance.choice((0, 1, 3, 20, 1 << 20, (1 << 32) - 1)))
    content = packed(text, binary, head if chance.random() < 0.05 else ())
    return change_bytes(chance, content, content) if chance.random() < 0.15 else content


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """(container, key) of every value below."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        found.append((value, key))
        if isinstance(child, dict | list):
            _places(child, found)
    return found


def _other_value(chance: random.Random, document: Document) -> None:
    container, key = chance.choice(_places(document, []))
    container[key] = copy.deepcopy(chance.choice(_VALUES))


def _near_value(chance: random.Random, document: Document) -> None:
    """A number that is one or four off, or many times as large."""
    numbers = [(c, k) for c, k in _places(document, []) if type(c[k]) in (int, float)]
    if numbers:
        container, key = chance.choice(numbers)
        container[key] = chance.choice((container[key] * 2, container[key] + 1, container[key] - 1,
                                        container[key] + 4, -container[key]))  # fmt: skip


def _removed(chance: random.Random, document: Document) -> None:
    container, key = chance.choice(_places(document, []))
    del container[key]


def _swapped(chance: random.Random, document: Document) -> None:
    """A value takes the place of another."""
    places = _places(document, [])
    (one, key), (other, other_key) = chance.choice(places), chance.choice(places)
    one[key] = copy.deepcopy(other[other_key])


def _accessor(chance: random.Random, document: Document) -> None:
    accessor = chance.choice(document.get("accessors") or [{}])
    if isinstance(accessor, dict):
        key = chance.choice(("type", "componentType", "normalized", "sparse", "byteOffset"))
        accessor[key] = chance.choice(
            {"type": _TYPES, "componentType": _COMPONENTS}.get(key, _VALUES)
        )


def _view(chance: random.Random, document: Document) -> None:
    view = chance.choice(document.get("bufferViews") or [{}])
    if isinstance(view, dict):
        view[chance.choice(("byteStride", "byteOffset", "byteLength", "buffer"))] = chance.choice(
            (*range(0, 64, 4), *_VALUES)
        )


def _product(chance: random.Random, document: Document) -> None:
    """Many nodes, primitives, roots or children: more than the file's own size lets expect."""
    many, some = chance.choice((100, 1000, 10_000, 10_001)), chance.choice((1, 10, 1000))
    document["nodes"] = [{"mesh": 0} for _ in range(many)]
    document["scenes"] = [{"nodes": list(range(many))}]
    meshes = document.get("meshes")
    if meshes and isinstance(meshes[0], dict) and meshes[0].get("primitives"):
        meshes[0]["primitives"] = [meshes[0]["primitives"][0]] * some


def _graph(chance: random.Random, document: Document) -> None:
    """Cycles, chains, several parents."""
    count = chance.choice((2, 50, 5000))
    offsets = chance.choice(((1,), (0,), (1, 2), (1, 1), (-1,), (1 - count,)))
    document["nodes"] = [
        {"mesh": 0, "children": [k + offset for offset in offsets]} for k in range(count)
    ]
    if chance.random() < 0.5:
        document["nodes"].append({"mesh": 0})
        document["scenes"] = [{"nodes": [0]}]


def _extension(chance: random.Random, document: Document) -> None:
    name = chance.choice(_EXTENSIONS)
    document["extensionsRequired"] = chance.choice(([name], name, {str(name): 1}))
    document["extensionsUsed"] = [name]


def _picture(chance: random.Random, document: Document) -> None:
    uri = chance.choice(_ADDRESSES)
    document[chance.choice(("images", "buffers"))] = [{"uri": uri, "byteLength": 88}]


_CHANGES: tuple[Callable[[random.Random, Document], None], ...] = (
    *(
        _other_value,
        _other_value,
        _near_value,
        _near_value,
        _removed,
        _swapped,
        _accessor,
        _accessor,
    ),
    *(_view, _view, _product, _graph, _extension, _picture),
)


def _other_numbers(chance: random.Random, binary: bytes) -> bytes:
    """Positions, indices or texture coordinates with odd numbers."""
    content = bytearray(binary)
    for _ in range(chance.choice((1, 1, 3))):
        form = chance.choice(("<f", "<H", "<I"))
        value = (
            chance.choice(_NUMBERS) if form == "<f" else chance.choice((0, 3, 4, 5, 255, 0xFFFF))
        )
        at = 2 * chance.randrange(max(1, len(content) // 2))
        content[at : at + struct.calcsize(form)] = struct.pack(form, value)
    return bytes(content)


def _other_text(chance: random.Random, document: Document) -> bytes:
    """JSON that is not what json.dumps writes."""
    text = json.dumps(document)
    places = [k for k, char in enumerate(text) if char.isdigit()]
    at = chance.choice(places)
    number = chance.choice(
        ("1e999", "-1e999", "0x10", "01", "1" * 5000, "1e-999", "NaN", "1.0", "-0")
    )
    deep = chance.choice((50, 5_000, 200_000))
    return chance.choice((
        (text[:at] + number + text[at + 1 :]).encode(),
        text.encode("utf-16"), b"\xef\xbb\xbf" + text.encode(),
        text.replace("0", "\u0660").encode(),
        b"[" * deep + b"]" * deep, b'{"nodes":' * deep + b"1" + b"}" * deep,
        (text[:-1] + ',"nodes":[]}').encode(), (text + text).encode(), text.encode()[:-5],
        b'{"nodes":[' + b"{}," * chance.choice((9_999, 1_000_000)) + b"{}]}",
        text.encode() + b"\0\0\0\0", b"", b"null",
    ))  # fmt: skip


def try_glb(path: Path) -> str:
    """`read`, or the code of the refusal. Raises any other exception.

    One file in ten goes through the sandbox, the others only through the function that runs in it.
    """
    before = rss_mb(os.getpid())
    check = check_glb if zlib.crc32(path.read_bytes()) % 10 == 0 else read_glb
    try:
        check(path)
    except InvalidParameter as refusal:
        return refusal.code
    finally:
        assert rss_mb(os.getpid()) - before <= MOST_GROWTH_MB, "the process grew"
        assert os.listdir(path.parent) == [path.name], "a file was left"
    upload = read_glb(path)
    assert len(upload.vertices) <= MAX_VERTICES and len(upload.faces) <= MAX_FACES
    steps = np.stack([upload.vertices] * 2).astype(np.float32)
    MeshSequence(steps, upload.faces, 12.0, texture=upload.texture)
    if upload.texture is not None:
        check_texture(upload.texture)
    return "read"
