"""Whatever Blender does, its files are checked and no process is left.

Misbehaving executables run everywhere; the real Blender only where BLENDER_PATH or PATH has one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshes.blender import export_with_blender
from meshes.external_tools import ToolFailed
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from tests.meshes.glb_reader import signed_volume
from tests.meshes.walking_animal import walking_animal
from tests.waiting import wait_until
from video.sandbox import Limits, launch

LAUNCHES: dict[str, Any] = {
    "plain": subprocess.Popen,
    "sandboxed": partial(launch, limits=Limits(memory_mb=16_384, file_mb=2048, open_files=1024)),
}
NO_USD = 77
READER = Path(__file__).with_name("blender_reader.py")
FBX, ABC = "Kaydara FBX Binary  \\000 and so on", "Ogawa and so on"

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
            f"printf '{FBX}' > animated_mesh.fbx", "did not write animated_mesh.abc", id="half"
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
        f"printf '{FBX}' > animated_mesh.fbx; printf '{ABC}' > animated_mesh.abc\n"
        f"sleep 600 & echo $! >> {folder.parent}/pids"
    )
    made = export_with_blender(small(), folder, lingers)
    assert [path.name for path in made] == ["animated_mesh.fbx", "animated_mesh.abc"]
    assert made[0].read_bytes().startswith(b"Kaydara") and len(os.listdir(folder)) == 2
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
    without = fake_blender(f"printf '{FBX}' > animated_mesh.fbx; echo BUILT WITHOUT ALEMBIC")
    made = export_with_blender(small(), folder, without)
    assert [path.name for path in made] == os.listdir(folder) == ["animated_mesh.fbx"]


# --- the real one


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["textured", "coloured", "plain"])
def test_blenders_files_hold_the_same_mesh(
    kind: str, real_blender: str, folder: Path, tmp_path: Path
) -> None:
    sequence = walking_animal(6, rings=20, kind=kind)
    made = export_with_blender(sequence, folder, real_blender, launch=LAUNCHES["sandboxed"])
    assert made and sorted(os.listdir(folder)) == sorted(path.name for path in made)
    for path in made:
        assert str(tmp_path).encode() not in path.read_bytes()
        _assert_same(_read_back(real_blender, path, sequence, tmp_path), sequence, path.suffix)


@pytest.mark.timeout(400)
def test_blender_opens_the_usdz_too(real_blender: str, tmp_path: Path) -> None:
    pytest.importorskip("pxr", reason="usd-core is not installed (requirements/usd.txt)")
    from meshes.usd import write_usdz

    sequence, path = walking_animal(6, rings=20), tmp_path / "animated_mesh.usdz"
    write_usdz(sequence, vertex_normals(sequence), path)
    _assert_same(_read_back(real_blender, path, sequence, tmp_path), sequence, path.suffix)


def _read_back(
    blender: str, path: Path, sequence: MeshSequence, scratch: Path
) -> dict[str, np.ndarray[Any, Any]]:
    found = scratch / "found.npz"
    found.unlink(missing_ok=True)
    reading = subprocess.run(
        [blender, "-b", "--factory-startup", "--python-exit-code", "3", "-P", str(READER), "--",
         str(path), str(len(sequence)), str(sequence.fps), str(found)],
        env={**os.environ, "HOME": str(scratch)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=180,
    )  # fmt: skip
    if reading.returncode == NO_USD:
        pytest.skip("this Blender was built without USD")
    assert reading.returncode == 0, reading.stdout[-3000:].decode(errors="replace")
    with np.load(found) as arrays:
        return dict(arrays)


def _assert_same(
    seen: dict[str, np.ndarray[Any, Any]], sequence: MeshSequence, suffix: str
) -> None:
    assert np.array_equal(seen["faces"], sequence.faces)
    assert np.abs(seen["vertices"] - sequence.vertices).max() < 1e-4
    for given, found in zip(sequence.vertices, seen["vertices"], strict=True):
        assert signed_volume(found, sequence.faces) == pytest.approx(
            signed_volume(given, sequence.faces), rel=1e-4
        )
    if sequence.texture:
        uv = sequence.texture.uv[sequence.faces.ravel()] * (1, -1) + (0, 1)
        assert np.abs(seen["uv"] - uv).max() < 1e-6
    if suffix == ".fbx":
        assert float(seen["fps"]) == sequence.fps
        assert seen["pictures"].tolist() == (["texture.jpg"] if sequence.texture else [])
    if suffix == ".fbx" and sequence.colors is not None:
        linear = sequence.colors[sequence.faces.ravel()] / 255
        assert np.abs(seen["colors"] - linear).max() < 0.01
