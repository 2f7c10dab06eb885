"""Normals are unit vectors, weighted by area, and equal on both sides of a texture seam."""

from __future__ import annotations

import numpy as np

from meshes.normals import vertex_normals, weld
from meshes.sequence import MeshSequence
from tests.meshes.walking_animal import walking_animal


def test_the_two_sides_of_a_seam_share_one_normal_in_every_timestep() -> None:
    sequence = walking_animal(4, rings=20)
    normals = vertex_normals(sequence).reshape(4, 20, 20, 3)
    assert np.array_equal(normals[:, :, 0], normals[:, :, -1])  # the seam
    assert np.ptp(normals[:, 0], axis=1).max() == 0  # a pole


def test_vertices_repeated_where_charts_end_keep_their_normals() -> None:
    """As unwrapping a mesh for its texture repeats them: half of the faces get their own."""
    sequence = walking_animal(3, rings=20, kind="plain")
    half = len(sequence.faces) // 2
    repeated, places = np.unique(sequence.faces[half:], return_inverse=True)
    vertices = np.concatenate([sequence.vertices, sequence.vertices[:, repeated]], axis=1)
    faces = sequence.faces.copy()
    faces[half:] = sequence.vertices.shape[1] + places.reshape(-1, 3)
    normals = vertex_normals(MeshSequence(vertices, faces, 8))
    assert np.allclose(normals[:, :400], vertex_normals(sequence), atol=1e-6)
    assert np.array_equal(normals[:, 400:], normals[:, repeated])


def test_vertices_that_only_meet_keep_their_own_normals() -> None:
    # two triangles of different planes that touch in the first timestep and part
    closed = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1], [0, 1, 0]]
    vertices = np.array([closed, closed], np.float32)
    vertices[1, 3:, 0] -= 1
    normals = vertex_normals(MeshSequence(vertices, np.array([[0, 1, 2], [3, 5, 4]], np.int32), 8))
    assert np.array_equal(normals[:, :3], np.tile(np.array([0, 0, 1], np.float32), (2, 3, 1)))
    assert np.array_equal(normals[:, 3:], np.tile(np.array([1, 0, 0], np.float32), (2, 3, 1)))


def test_normals_have_unit_length_and_point_outwards() -> None:
    sequence = walking_animal(2, rings=40)
    normals = vertex_normals(sequence)
    assert np.abs(np.linalg.norm(normals, axis=2) - 1).max() < 1e-6
    middle = sequence.vertices[0].mean(axis=0)
    outwards = np.einsum("ij,ij->i", normals[0], sequence.vertices[0] - middle)
    assert (outwards > 0).mean() > 0.95


def test_a_larger_face_weighs_more() -> None:
    vertices = np.array([[[0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 1], [0, 1, 0]]], np.float32)
    faces = np.array([[0, 1, 2], [0, 4, 3]], np.int32)  # areas 8 along +Z and 0.5 along +X
    normal = vertex_normals(MeshSequence(vertices, faces, 8))[0, 0]
    assert np.allclose(normal, np.array([0.5, 0, 8]) / np.hypot(0.5, 8))


def test_flat_faces_and_unused_vertices_get_plus_z() -> None:
    vertices = np.array([[[0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 5, 5]]], np.float32)
    normals = vertex_normals(MeshSequence(vertices, np.array([[0, 1, 2]], np.int32), 8))
    assert np.array_equal(normals[0], np.tile(np.array([0, 0, 1], np.float32), (4, 1)))


def test_very_large_and_very_small_meshes_keep_their_normals() -> None:
    shape = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]]], np.float32)
    for size in (1e-30, 1e30):
        sequence = MeshSequence(shape * np.float32(size), np.array([[0, 1, 2]], np.int32), 8)
        assert np.array_equal(
            vertex_normals(sequence)[0], np.tile(np.array([0, 0, 1], np.float32), (3, 1))
        )


def test_zero_and_minus_zero_are_one_position() -> None:
    places = weld(np.array([[0.0, 1, 2], [3, 4, 5], [-0.0, 1, 2]], np.float32))
    assert places[0] == places[2] != places[1]
