"""meshes.zip contains the per-frame meshes, unchanged, with the same bytes every time."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from meshes.archive import write_archive
from meshes.gltf import write_frames
from meshes.normals import vertex_normals
from tests.meshes.walking_animal import walking_animal


def _frames(folder: Path) -> list[Path]:
    folder.mkdir()
    sequence = walking_animal(3, rings=20)
    return write_frames(sequence, vertex_normals(sequence), folder)


def test_the_members_are_the_files_and_nothing_else(tmp_path: Path) -> None:
    files = _frames(tmp_path / "frames")
    write_archive(files, tmp_path / "meshes.zip")
    with zipfile.ZipFile(tmp_path / "meshes.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["mesh_000.glb", "mesh_001.glb", "mesh_002.glb"]
        for file in files:
            assert archive.read(file.name) == file.read_bytes()
        for member in archive.infolist():
            assert member.compress_type == zipfile.ZIP_DEFLATED
            assert member.compress_size < member.file_size
            assert member.external_attr >> 16 == 0o100644


def test_the_same_meshes_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_archive(_frames(tmp_path / name), tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_a_missing_member_leaves_no_archive(tmp_path: Path) -> None:
    files = _frames(tmp_path / "frames")
    files[2].unlink()
    (tmp_path / "out").mkdir()
    with pytest.raises(FileNotFoundError):
        write_archive(files, tmp_path / "out" / "meshes.zip")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_empty_or_ambiguous_list_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mesh_000.glb"
    file.write_bytes(b"x")
    for files in ([], [file, file]):
        with pytest.raises(ValueError, match="different names"):
            write_archive(files, tmp_path / "meshes.zip")
