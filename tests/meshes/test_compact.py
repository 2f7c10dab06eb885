"""compact_mesh.glb holds what its source held, and whatever gltfpack does, nothing else is left.

Misbehaving executables run everywhere; the real gltfpack only where `make gltfpack` or PATH has it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from meshes.compact import gltfpack_path, write_compact
from meshes.external_tools import ToolFailed
from meshes.gltf import write_animated
from meshes.normals import vertex_normals
from tests.meshes.animal_in_view import animal_in_view
from tests.meshes.glb_reader import ReadGlb
from tests.waiting import wait_until
from video.sandbox import Limits, launch

IN_SANDBOX = partial(launch, limits=Limits(memory_mb=16_384, cpu_s=120, file_mb=1024))

FakeGltfpack = Callable[[str], None]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A textured, moving animal with a moving camera."""
    path, sequence = tmp_path / "animated_mesh.glb", animal_in_view(5, is_moving=True)
    write_animated(sequence, vertex_normals(sequence), path, {"pipeline": "silhouette"})
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    return folder / "compact_mesh.glb"


@pytest.fixture
def fake_gltfpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGltfpack:
    """Put an executable that does what the test wants where `make gltfpack` puts the real one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")

    def make(does: str) -> None:
        program = folder / "gltfpack"
        program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{does}\n")
        program.chmod(0o755)

    return make


@pytest.mark.skipif(gltfpack_path() is None, reason="gltfpack is not installed (make gltfpack)")
def test_names_camera_texture_and_facts_are_those_of_the_source(source: Path, target: Path) -> None:
    write_compact(source, target, has_skin=False, launch=IN_SANDBOX)
    before, after = ReadGlb(source.read_bytes()), ReadGlb(target.read_bytes())
    (picture,) = _pictures(before)
    sizes = [path.stat().st_size - len(picture) for path in (source, target)]
    assert sizes[1] < sizes[0] / 2
    assert after.tree["extensionsRequired"] == ["KHR_mesh_quantization", "EXT_meshopt_compression"]
    assert after.tree["asset"]["extras"] == before.tree["asset"]["extras"]
    assert _named(after, "materials") == _named(before, "materials") == ["surface"]
    assert _named(after, "animations") == _named(before, "animations")
    assert set(_named(before, "nodes")) <= set(_named(after, "nodes"))
    assert _pictures(after) == [picture]
    given, found = (_camera(glb) for glb in (before, after))
    assert found["extras"] == given["extras"]
    assert found["translation"] == pytest.approx(given["translation"])
    targets = {c["target"]["path"] for a in after.tree["animations"] for c in a["channels"]}
    assert targets == {"weights", "translation"}


@pytest.mark.skipif(gltfpack_path() is None, reason="gltfpack is not installed (make gltfpack)")
def test_the_same_source_gives_the_same_bytes(source: Path, target: Path) -> None:
    made = []
    for _ in range(2):
        write_compact(source, target, has_skin=False, launch=IN_SANDBOX)
        made.append(target.read_bytes())
    assert made[0] == made[1] and os.listdir(target.parent) == [target.name]


def test_without_gltfpack_it_fails_and_says_so(
    source: Path, target: Path, fake_gltfpack: FakeGltfpack
) -> None:
    target.write_bytes(b"of an earlier run")
    with pytest.raises(ToolFailed, match="not installed"):
        write_compact(source, target, has_skin=False)
    assert os.listdir(target.parent) == []


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        pytest.param("exit 0", "did not write", id="makes nothing"),
        pytest.param("echo broken; exit 1", r"gltfpack failed \(1\)", id="fails"),
        pytest.param('echo junk > "$4"', "did not write", id="junk"),
        pytest.param('cp "$2" "$4"', "did not write", id="a copy"),
        pytest.param("sleep 600", "did not finish in 1 s", id="hangs"),
    ],
)
def test_a_failure_leaves_no_file(
    does: str, reason: str, source: Path, target: Path, fake_gltfpack: FakeGltfpack
) -> None:
    fake_gltfpack(does)
    with pytest.raises(ToolFailed, match=reason):
        write_compact(source, target, has_skin=False, timeout_s=1)
    assert os.listdir(target.parent) == []


def test_an_exception_of_the_caller_ends_gltfpack(
    source: Path, target: Path, fake_gltfpack: FakeGltfpack
) -> None:
    class GivesUp(Exception):
        pass

    pid = source.parent / "pid"

    def give_up() -> None:
        if pid.exists():
            raise GivesUp

    fake_gltfpack("sleep 600")
    with pytest.raises(GivesUp):
        write_compact(
            source, target, has_skin=False, launch=subprocess.Popen, while_waiting=give_up
        )
    wait_until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())
    assert os.listdir(target.parent) == []


def _named(glb: ReadGlb, kind: str) -> list[str]:
    return [thing["name"] for thing in glb.tree[kind] if "name" in thing]


def _camera(glb: ReadGlb) -> dict[str, Any]:
    (node,) = [node for node in glb.tree["nodes"] if "camera" in node]
    return dict(node)


def _pictures(glb: ReadGlb) -> list[bytes]:
    return [glb.view(image["bufferView"]) for image in glb.tree["images"]]
