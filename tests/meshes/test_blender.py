"""Whatever Blender does, its files are checked and no process is left.

Misbehaving executables run everywhere; the real Blender, or a Python that has bpy, only where
BLENDER_PATH or PATH has one.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshes.blender import ALEMBIC, FBX, OUTPUTS, SKINNED_FBX, export_with_blender
from meshes.external_tools import ToolFailed
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from tests.meshes.bending_tube import bending_tube, textured_tube
from tests.meshes.blender_reading import read_with_blender
from tests.meshes.glb_reader import signed_volume
from tests.meshes.walking_animal import walking_animal
from tests.waiting import wait_until
from video.sandbox import Limits, launch

LAUNCHES: dict[str, Any] = {
    "plain": subprocess.Popen,
    "sandboxed": partial(launch, limits=Limits(memory_mb=16_384, file_mb=2048, open_files=1024)),
}
AN_FBX, AN_ABC = "Kaydara FBX Binary  \\000 and so on", "Ogawa and so on"

FakeBlender = Callable[..., str]


@pytest.fixture
def fake_blender(tmp_path: Path) -> FakeBlender:
    """Make an executable that says it is Blender 3.4.1 and then does what the test wants."""

    def make(does: str, version: str = "echo Blender 3.4.1") -> str:
        path = tmp_path / "fake_blender"
        path.write_text(
            f'#!/bin/sh\necho $$ >> {tmp_path}/pids\nif [ "$1" = --version ]; then\n{version}\n'
            f"exit 0\nfi\n{does}\n"
        )
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "outputs"
    path.mkdir()
    return path


def small() -> MeshSequence:
    return walking_animal(3, rings=8)


def assert_nothing_is_left(folder: Path) -> None:
    assert os.listdir(folder) == []
    pids = folder.parent / "pids"
    for pid in pids.read_text().split() if pids.exists() else ():
        wait_until(lambda pid=pid: not _is_alive(int(pid)))  # type: ignore[misc]


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("launch_by", LAUNCHES.values(), ids=LAUNCHES)
@pytest.mark.parametrize(
    ("does", "reason"),
    [
        pytest.param("exit 0", "did not write animated_mesh.fbx", id="makes nothing"),
        pytest.param("exit 3", "3", id="its script raised"),
        pytest.param("kill -SEGV $$", "-11", id="crashes"),
        pytest.param(
            "echo junk > animated_mesh.fbx; echo junk > animated_mesh.abc",
            "animated_mesh.fbx has another format",
            id="junk",
        ),
        pytest.param(
            "ln -s /etc/passwd animated_mesh.fbx", "did not write animated_mesh.fbx", id="a link"
        ),
        pytest.param(
            f"printf '{AN_FBX}' > animated_mesh.fbx", "did not write animated_mesh.abc", id="half"
        ),
        pytest.param("yes", "too much output|-25|153", id="endless output"),
    ],
)
def test_a_failed_export_leaves_no_file(
    does: str, reason: str, launch_by: Any, fake_blender: FakeBlender, folder: Path
) -> None:
    with pytest.raises(ToolFailed, match=reason):
        export_with_blender(small(), folder, fake_blender(does), launch=launch_by)
    assert_nothing_is_left(folder)


@pytest.mark.parametrize("launch_by", LAUNCHES.values(), ids=LAUNCHES)
def test_a_hanging_blender_is_killed_with_its_children(
    launch_by: Any, fake_blender: FakeBlender, folder: Path
) -> None:
    hangs = fake_blender(f"sleep 600 & echo $! >> {folder.parent}/pids; sleep 600")
    with pytest.raises(ToolFailed, match="did not finish in 1 s"):
        export_with_blender(small(), folder, hangs, launch=launch_by, timeout_s=1)
    assert_nothing_is_left(folder)


def test_blenders_children_are_killed_after_success_too(
    fake_blender: FakeBlender, folder: Path
) -> None:
    lingers = fake_blender(
        f"printf '{AN_FBX}' > animated_mesh.fbx; printf '{AN_ABC}' > animated_mesh.abc\n"
        f"sleep 600 & echo $! >> {folder.parent}/pids"
    )
    sequence = small()
    made = export_with_blender(sequence, folder, lingers)
    texture = "animated_mesh_texture.jpg"
    assert [path.name for path in made] == ["animated_mesh.fbx", "animated_mesh.abc", texture]
    assert made[0].read_bytes().startswith(b"Kaydara") and len(os.listdir(folder)) == 3
    assert sequence.texture and made[2].read_bytes() == sequence.texture.image
    for path in made:
        path.unlink()
    assert_nothing_is_left(folder)


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("echo Blender 2.93.4", "too old: 3.4"),
        ("echo Blender 3.3.0", "too old: 3.4"),
        ("echo Mixer 1.0", "does not say that it is Blender"),
        ("head -c 4096 /dev/urandom", "does not say that it is Blender"),
        ("", "does not say that it is Blender"),
        ("exit 1", "failed"),
        ("sleep 600", "did not finish"),
    ],
)
def test_an_old_or_wrong_executable_only_gets_the_version_query(
    version: str, reason: str, fake_blender: FakeBlender, folder: Path
) -> None:
    asked = folder.parent / "asked"
    executable = fake_blender(f"touch {asked}", version)
    with pytest.raises(ToolFailed, match=reason):
        export_with_blender(small(), folder, executable, timeout_s=1)
    assert not asked.exists()
    assert_nothing_is_left(folder)


def test_an_executable_that_cannot_start_raises_tool_failed(folder: Path) -> None:
    for wrong in (folder.parent / "missing", folder.parent):
        with pytest.raises(ToolFailed, match="could not be started"):
            export_with_blender(small(), folder, str(wrong))
    assert_nothing_is_left(folder)


def test_files_of_an_earlier_run_do_not_count(fake_blender: FakeBlender, folder: Path) -> None:
    for name in ("animated_mesh.fbx", "animated_mesh.abc"):
        (folder / name).write_bytes(b"Kaydara FBX Binary  \x00 of yesterday")
    with pytest.raises(ToolFailed):
        export_with_blender(small(), folder, fake_blender("exit 0"))
    assert_nothing_is_left(folder)


def test_an_exception_of_the_caller_ends_blender_at_once(
    fake_blender: FakeBlender, folder: Path
) -> None:
    class GivesUp(Exception):
        pass

    def give_up() -> None:
        if (folder.parent / "began").exists():
            raise GivesUp

    hangs = fake_blender(f"touch {folder.parent}/began; sleep 600")
    with pytest.raises(GivesUp):
        export_with_blender(small(), folder, hangs, while_waiting=give_up)
    assert_nothing_is_left(folder)


def test_blender_gets_its_flags_in_order_and_its_own_home(
    fake_blender: FakeBlender, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    report = folder.parent / "report"
    with pytest.raises(ToolFailed):
        export_with_blender(small(), folder, fake_blender(f'(echo "$@"; env; ls) > {report}'))
    output = report.read_text()
    flags = "-b --factory-startup --disable-autoexec --python-exit-code 3 -P "
    assert output.startswith(flags) and "blender_script.py -- sequence.npz" in output
    assert f"HOME={folder}" in output and "secret" not in output and "texture.jpg" in output


def test_a_blender_without_alembic_makes_the_fbx_alone(
    fake_blender: FakeBlender, folder: Path
) -> None:
    without = fake_blender(f"printf '{AN_FBX}' > animated_mesh.fbx; echo BUILT WITHOUT ALEMBIC")
    made = export_with_blender(small(), folder, without)
    assert [path.name for path in made] == os.listdir(folder) == ["animated_mesh.fbx"]


def test_only_the_files_that_are_wanted_are_asked_for(
    fake_blender: FakeBlender, folder: Path
) -> None:
    report = folder.parent / "report"
    program = fake_blender(f"echo \"$@\" > {report}; printf '{AN_FBX}' > skinned_mesh.fbx")
    sequence, skin = bending_tube(2)
    made = export_with_blender(sequence, folder, program, [SKINNED_FBX], skin=skin)
    assert [path.name for path in made] == os.listdir(folder) == ["skinned_mesh.fbx"]
    assert "--skin skin.npz --skinned-fbx skinned_mesh.fbx" in report.read_text()
    assert "animated_mesh" not in report.read_text()


def test_a_skin_of_another_mesh_is_refused_before_blender_starts(
    fake_blender: FakeBlender, folder: Path
) -> None:
    sequence, _ = bending_tube(3)
    for wrong in (None, bending_tube(2)[1]):
        with pytest.raises(ValueError, match="skin"):
            export_with_blender(sequence, folder, fake_blender(""), [SKINNED_FBX], skin=wrong)
    assert_nothing_is_left(folder)


def fake_python(make: FakeBlender, bpy: str, does: str) -> str:
    """An executable that says it is Python, does `bpy` when asked for it, and else `does`."""
    return make(f'if [ "$2" = -c ]; then\n{bpy}\nexit 0\nfi\n{does}', "echo Python 3.11.7")


def test_a_python_that_has_bpy_runs_the_same_script(
    fake_blender: FakeBlender, folder: Path
) -> None:
    report = folder.parent / "report"
    does = f"(echo \"$@\"; env) > {report}; printf '{AN_FBX}' > animated_mesh.fbx"
    program = fake_python(fake_blender, "echo some warning; echo Blender 4.2.0 LTS", does)
    made = export_with_blender(small(), folder, program, [FBX])
    assert [path.name for path in made] == ["animated_mesh.fbx"]
    flags, _, arguments = report.read_text().partition("blender_script.py ")
    assert flags.startswith("-I /") and arguments.startswith("-- sequence.npz --picture")
    assert f"HOME={folder}" in arguments


@pytest.mark.parametrize(
    ("bpy", "reason"),
    [
        ("echo Blender 2.91.0", "too old: 3.4"),
        ("echo 5.0", "does not say its version"),
        ("exit 1", "this Python cannot import bpy"),
    ],
)
def test_a_python_with_an_old_or_wrong_bpy_is_only_asked(
    bpy: str, reason: str, fake_blender: FakeBlender, folder: Path
) -> None:
    asked = folder.parent / "asked"
    program = fake_python(fake_blender, bpy, f"touch {asked}")
    with pytest.raises(ToolFailed, match=reason):
        export_with_blender(small(), folder, program, timeout_s=1)
    assert not asked.exists()
    assert_nothing_is_left(folder)


@pytest.mark.skipif(importlib.util.find_spec("bpy") is not None, reason="this Python has bpy")
def test_a_real_python_without_bpy_says_so(folder: Path) -> None:
    with pytest.raises(ToolFailed, match="this Python cannot import bpy") as failed:
        export_with_blender(small(), folder, sys.executable, launch=LAUNCHES["sandboxed"])
    assert "No module named 'bpy'" in failed.value.log
    assert_nothing_is_left(folder)


# --- the real one


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["textured and skinned", "coloured", "plain"])
def test_blenders_files_hold_the_same_mesh(
    kind: str, real_blender: str, folder: Path, tmp_path: Path
) -> None:
    if kind == "textured and skinned":
        (sequence, skin), names = textured_tube(6), list(OUTPUTS)
    else:
        sequence, skin, names = walking_animal(6, rings=20, kind=kind), None, [FBX, ALEMBIC]
    launch = LAUNCHES["sandboxed"]
    made = export_with_blender(sequence, folder, real_blender, names, skin=skin, launch=launch)
    assert sorted(os.listdir(folder)) == sorted(path.name for path in made)
    models = [path for path in made if path.name in names]
    assert {FBX, *names} - {ALEMBIC} <= {path.name for path in models}
    found = read_with_blender(real_blender, models, len(sequence), sequence.fps)
    for path, seen in zip(models, found, strict=True):
        assert str(tmp_path).encode() not in path.read_bytes()
        _assert_same(seen, sequence, path.suffix)
        if path.name == SKINNED_FBX:
            _assert_bones(seen)


@pytest.mark.timeout(400)
def test_blender_opens_the_usdz_too(real_blender: str, tmp_path: Path) -> None:
    pytest.importorskip("pxr", reason="usd-core is not installed (requirements/usd.txt)")
    from meshes.usd import write_usdz
    from meshes.usd_skin import write_skinned_usdz

    sequence, skin = textured_tube(6)
    normals = vertex_normals(sequence)
    points, bones = tmp_path / "animated_mesh.usdz", tmp_path / "skinned_mesh.usdz"
    write_usdz(sequence, normals, points)
    write_skinned_usdz(sequence, skin, normals, bones)
    files = [points, bones]
    moving, skinned = read_with_blender(real_blender, files, len(sequence), sequence.fps)
    skinned["vertices"][..., 1] += sequence.vertices[..., 1].min()  # it stands on the floor
    for seen in (moving, skinned):
        _assert_same(seen, sequence, ".usdz")


def _assert_same(
    seen: dict[str, np.ndarray[Any, Any]], sequence: MeshSequence, suffix: str
) -> None:
    assert np.array_equal(seen["faces"], sequence.faces)
    assert np.abs(seen["vertices"] - sequence.vertices).max() < 1e-5
    for given, found in zip(sequence.vertices, seen["vertices"], strict=True):
        assert signed_volume(found, sequence.faces) == pytest.approx(
            signed_volume(given, sequence.faces), rel=1e-4
        )
    if sequence.texture:
        uv = sequence.texture.uv[sequence.faces.ravel()] * (1, -1) + (0, 1)
        assert np.abs(seen["uv"] - uv).max() < 1e-6
    if suffix == ".fbx":
        assert float(seen["fps"]) == sequence.fps
        assert seen["clips"].tolist() == ["motion"]
        assert np.allclose(seen["key_times"], np.arange(len(sequence)) / sequence.fps)
        assert seen["pictures"].tolist() == (["texture.jpg"] if sequence.texture else [])
    if suffix == ".fbx" and sequence.colors is not None:
        linear = sequence.colors[sequence.faces.ravel()] / 255
        assert np.abs(seen["colors"] - linear).max() < 0.01


def _assert_bones(seen: dict[str, np.ndarray[Any, Any]]) -> None:
    """One root, no bones at the ends, and no node that is turned or scaled."""
    assert seen["bones"].tolist() == ["root", "bone_00", "bone_01"]
    assert np.allclose(seen["scales"], 1) and np.allclose(seen["turns"], 0, atol=1e-4)
