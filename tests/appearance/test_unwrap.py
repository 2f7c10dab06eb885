"""unwrap: every face gets its place in the texture, whatever the mesh, and no process is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from appearance.texels import Texels, find_texels
from appearance.unwrap import LIMITS, Unwrapped, unwrap
from meshes.external_tools import ToolFailed
from meshes.normals import weld
from meshes.sequence import MeshSequence
from tests.meshes.walking_animal import walking_animal
from video.sandbox import launch

in_sandbox = partial(launch, limits=LIMITS)

WITHOUT_XATLAS = "import runpy, sys; sys.modules['xatlas'] = None; sys.argv = sys.argv[1:]; "
WITHOUT_XATLAS += "runpy.run_path(sys.argv[0], run_name='__main__')"


def ignore(_: float = 0) -> None:
    pass


def unwrapped(mesh: MeshSequence, size_px: int = 512) -> Unwrapped:
    return unwrap(mesh.vertices[0], mesh.faces, size_px, in_sandbox, ignore)


def texels_of(mesh: MeshSequence, found: Unwrapped, size_px: int) -> Texels:
    return find_texels(mesh.vertices[0], found, size_px, ignore)


def components(faces: NDArray[np.int32], vertices: int) -> NDArray[np.int32]:
    """The number of the component of each vertex."""
    a, b, c = faces.T
    edges = np.ones(2 * len(faces)), (np.concatenate([a, b]), np.concatenate([b, c]))
    return np.asarray(connected_components(coo_array(edges, shape=(vertices, vertices)))[1])


@pytest.fixture(scope="module")
def animal() -> MeshSequence:
    return walking_animal(1, 40, "plain")


@pytest.fixture(scope="module")
def flat(animal: MeshSequence) -> Unwrapped:
    return unwrapped(animal)


def test_faces_stay_in_their_order_at_their_places(animal: MeshSequence, flat: Unwrapped) -> None:
    assert (flat.vertex_map[flat.faces] == animal.faces).all()
    assert flat.vertex_map.dtype == flat.faces.dtype == np.int32
    assert flat.uv.dtype == np.float32 and flat.uv.shape == (len(flat.vertex_map), 2)
    assert flat.uv.min() >= 0 and flat.uv.max() <= 1


def areas_in_texture(found: Unwrapped) -> NDArray[np.float64]:
    """Of each face; the whole texture is 1."""
    a, b, c = (found.uv[corner].astype(float) for corner in found.faces.T)
    twice = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    return np.asarray(np.abs(twice) / 2)


def assert_no_overlap(mesh: MeshSequence, found: Unwrapped) -> None:
    covered = len(texels_of(mesh, found, 1024)) / 1024**2
    assert covered == pytest.approx(areas_in_texture(found).sum(), rel=0.005)
    assert covered > 0.35


def test_charts_do_not_overlap_and_fill_the_texture(animal: MeshSequence, flat: Unwrapped) -> None:
    assert_no_overlap(animal, flat)


def test_faces_without_area_that_share_vertices_stay_points(animal: MeshSequence) -> None:
    """They join vertices all over the mesh: laid out one by one they would cover the texture."""
    joined = np.random.default_rng(0).permutation(animal.vertices.shape[1])[:200]
    thin = np.stack([joined[:-1], joined[1:], joined[1:]], axis=1).astype(np.int32)
    faces = np.concatenate([animal.faces, thin])
    mesh = MeshSequence(animal.vertices, faces, animal.fps)
    found = unwrapped(mesh)
    assert_no_overlap(mesh, found)
    assert areas_in_texture(found)[-len(thin) :].max() == 0
    assert np.ptp(found.uv[found.faces[-len(thin) :]], axis=1).max() == 0


def test_fine_parts_of_a_mesh_are_in_charts(animal: MeshSequence) -> None:
    """Faces of a thousandth of its size, as in a face or a hand."""
    fine = animal.vertices * np.float32(0.01) + np.float32(3)
    vertices = np.concatenate([animal.vertices, fine], axis=1)
    faces = np.concatenate([animal.faces, animal.faces + animal.vertices.shape[1]])
    found = unwrapped(MeshSequence(vertices, faces, animal.fps))
    corners = fine[0][animal.faces].astype(float)
    has_area = np.linalg.norm(np.cross(*np.diff(corners, axis=1).transpose(1, 0, 2)), axis=1) > 1e-8
    assert has_area.mean() > 0.9
    assert (areas_in_texture(found)[len(animal.faces) :][has_area] > 0).mean() > 0.99


def test_charts_are_at_least_two_pixels_apart(animal: MeshSequence, flat: Unwrapped) -> None:
    texels = texels_of(animal, flat, 512)
    # where vertices with one position are in one chart, they are at one point
    points = weld(np.pad(flat.uv, ((0, 0), (0, 1))))[flat.faces].astype(np.int32)
    charts = components(points, len(flat.vertex_map)) + 1
    picture = np.zeros(512 * 512, int)
    picture[texels.places] = charts[points[texels.faces, 0]]
    picture = np.pad(picture.reshape(512, 512), 2)
    for down in (-2, -1, 0, 1, 2):
        for right in (-2, -1, 0, 1, 2):
            other = np.roll(picture, (down, right), axis=(0, 1))
            if down**2 + right**2 <= 4:
                assert not ((picture > 0) & (other > 0) & (picture != other)).any()


def test_an_odd_mesh_keeps_all_faces() -> None:
    """Without area, repeated, three at an edge, in two parts; and a vertex without a face."""
    corners = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [2, 0, 0], [9, 9, 9], [0, 0, 1]]
    vertices = np.array([corners], np.float32)
    faces = [[0, 1, 2], [1, 1, 2], [1, 3, 2], [0, 1, 4], [0, 1, 2], [0, 1, 6]]
    vertices = np.concatenate([vertices, vertices + 3], axis=1)
    both = np.array([*faces, *(np.array(faces) + 7)], np.int32)
    mesh = MeshSequence(vertices, both, 8.0)
    found = unwrapped(mesh, 64)
    assert (found.vertex_map[found.faces] == both).all()
    covered = set(texels_of(mesh, found, 64).faces.tolist())
    # of two equal faces one is on top
    assert covered | {0, 4, 6, 10} == {0, 2, 4, 5, 6, 8, 10, 11}


@pytest.mark.parametrize("size", [1e-6, 1e18])
def test_the_size_of_a_mesh_does_not_matter(
    animal: MeshSequence, flat: Unwrapped, size: float
) -> None:
    found = unwrap(animal.vertices[0] * np.float32(size), animal.faces, 512, in_sandbox, ignore)
    assert np.ptp(found.uv, axis=0).min() > 0.5
    assert len(found.vertex_map) < 1.2 * len(flat.vertex_map)


def test_a_mesh_without_area_is_refused() -> None:
    vertices = np.zeros((3, 3), np.float32)
    with pytest.raises(ToolFailed, match="xatlas"):
        unwrap(vertices, np.array([[0, 1, 2]], np.int32), 64, in_sandbox, ignore)


def recording(started: list[subprocess.Popen[bytes]]) -> Callable[..., subprocess.Popen[bytes]]:
    def start(*args: Any, **popen: Any) -> subprocess.Popen[bytes]:
        started.append(in_sandbox(*args, **popen))
        return started[-1]

    return start


def assert_gone(process: subprocess.Popen[bytes]) -> None:
    with pytest.raises(ProcessLookupError):  # would be found if it were a zombie
        os.kill(process.pid, 0)


class Enough(Exception):
    pass


def test_the_process_ends_when_waiting_is_given_up() -> None:
    def give_up() -> None:
        raise Enough

    mesh, started = walking_animal(1, 300, "plain"), list[subprocess.Popen[bytes]]()
    with pytest.raises(Enough):
        unwrap(mesh.vertices[0], mesh.faces, 1024, recording(started), give_up)
    assert_gone(started[0])


def test_the_process_ends_when_it_takes_too_long() -> None:
    mesh, started = walking_animal(1, 300, "plain"), list[subprocess.Popen[bytes]]()
    start = recording(started)
    with pytest.raises(ToolFailed, match=r"did not finish in 0.05 s"):
        unwrap(mesh.vertices[0], mesh.faces, 1024, start, ignore, timeout_s=0.05)
    assert_gone(started[0])


def test_a_server_without_xatlas_says_so(animal: MeshSequence) -> None:
    def start(command: list[str], **popen: Any) -> subprocess.Popen[bytes]:
        assert Path(command[2]).is_file()
        return subprocess.Popen([sys.executable, "-I", "-c", WITHOUT_XATLAS, *command[2:]], **popen)

    with pytest.raises(ToolFailed, match="needs the package xatlas"):
        unwrap(animal.vertices[0], animal.faces, 64, start, ignore)


def test_a_process_that_fails_is_a_failed_tool(animal: MeshSequence) -> None:
    def start(command: list[str], **popen: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command[:3], "no size"], **popen)

    with pytest.raises(ToolFailed, match=r"xatlas failed \(1\)") as failed:
        unwrap(animal.vertices[0], animal.faces, 64, start, ignore)
    assert "no size" in failed.value.log
