"""animated_mesh.npz can be read with numpy alone, without pickle."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from meshes.npz import write_npz
from tests.meshes.animal_in_view import animal_in_view
from tests.meshes.walking_animal import walking_animal


@pytest.mark.parametrize("kind", ["plain", "coloured", "textured"])
def test_numpy_reads_the_same_arrays(kind: str, tmp_path: Path) -> None:
    sequence = replace(walking_animal(3, rings=8, kind=kind), fps=29.97)
    path = tmp_path / "animated_mesh.npz"
    write_npz(sequence, path)
    with np.load(path, allow_pickle=False) as read:
        assert np.array_equal(read["vertices"], sequence.vertices)
        assert np.array_equal(read["faces"], sequence.faces)
        assert read["vertices"].dtype == np.float32 and read["faces"].dtype == np.int32
        assert float(read["fps"]) == 29.97
        assert ("colors" in read) == (kind == "coloured")
        assert ("uv" in read) == ("texture" in read) == (kind == "textured")
        if sequence.colors is not None:
            assert np.array_equal(read["colors"], sequence.colors)
        if sequence.texture is not None:
            assert np.array_equal(read["uv"], sequence.texture.uv)
            assert read["texture"].tobytes() == sequence.texture.image
            assert str(read["texture_media_type"]) == "image/jpeg"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("is_orthographic", [False, True])
def test_the_cameras_matrix_maps_vertices_to_pixels(is_orthographic: bool, tmp_path: Path) -> None:
    sequence = animal_in_view(3, is_moving=True, is_orthographic=is_orthographic)
    write_npz(sequence, tmp_path / "animated_mesh.npz")
    assert sequence.view is not None
    with np.load(tmp_path / "animated_mesh.npz", allow_pickle=False) as read:
        assert read["camera_size"].tolist() == [320, 240]
        for t, (vertices, matrix) in enumerate(
            zip(read["vertices"], read["camera_matrix"], strict=True)
        ):
            u, v, w = matrix @ np.c_[vertices, np.ones(len(vertices))].T
            wanted = sequence.view.project(sequence.vertices[t], t)
            assert np.abs(np.stack([u / w, v / w], axis=1) - wanted).max() < 1e-6
    write_npz(replace(sequence, view=None), tmp_path / "animated_mesh.npz")
    with np.load(tmp_path / "animated_mesh.npz", allow_pickle=False) as read:
        assert not [name for name in read if name.startswith("camera")]
