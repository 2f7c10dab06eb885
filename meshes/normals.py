"""Vertex normals of a sequence, computed once for all output files."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from meshes.sequence import MeshSequence

Real = TypeVar("Real", np.float32, np.float64)


def vertex_normals(sequence: MeshSequence) -> NDArray[np.float32]:
    """Unit normals `(T, V, 3)`, each the mean of its faces' normals weighted by area.

    Vertices with equal positions in all timesteps share their faces: where a texture's chart ends,
    its vertices are there twice and get one normal, so no crease shows. A vertex whose faces have
    no area gets +Z.
    """
    welded = weld_paths(sequence.vertices)
    gather = sum_of_faces(welded[sequence.faces], int(welded.max()) + 1)
    normals = np.empty_like(sequence.vertices)
    for k, positions in enumerate(sequence.vertices):
        # float64: the squares of a float32's largest and smallest values stay finite and above zero
        summed = gather @ face_normals(positions.astype(np.float64), sequence.faces)
        length = np.sqrt(np.einsum("ij,ij->i", summed, summed))
        flat = length == 0
        summed[flat], length[flat] = (0.0, 0.0, 1.0), 1.0
        normals[k] = (summed / length[:, None])[welded]
    return normals


def check_normals(sequence: MeshSequence, normals: NDArray[np.float32]) -> None:
    """Raise ValueError unless these are float32 normals for all vertices of all timesteps."""
    shape = sequence.vertices.shape
    if normals.dtype != np.float32 or normals.shape != shape:
        raise ValueError(f"normals must be float32 {shape}, not {normals.dtype} {normals.shape}")


def weld(positions: NDArray[np.float32]) -> NDArray[np.intp]:
    """Number the distinct positions among `(V, 3)`; returns the number of each vertex, `(V,)`."""
    x, y, z = positions.T
    order = np.lexsort((z, y, x))
    ordered = positions[order]
    is_new = np.any(ordered[1:] != ordered[:-1], axis=1)
    places = np.empty(len(positions), np.intp)
    places[order] = np.concatenate(([0], np.cumsum(is_new)))
    return places


def weld_paths(vertices: NDArray[np.float32]) -> NDArray[np.intp]:
    """Number the distinct paths among vertices `(T, V, 3)`; those that only meet stay apart."""
    places = weld(vertices[0])
    one_of = np.zeros(int(places.max()) + 1, np.intp)
    one_of[places] = np.arange(len(places))
    if all((positions == positions[one_of[places]]).all() for positions in vertices):
        return places
    paths = vertices.transpose(1, 0, 2).reshape(len(places), -1) + np.float32(0)  # no minus zero
    return np.unique(paths, axis=0, return_inverse=True)[1].ravel()


def sum_of_faces(faces: NDArray[np.integer], vertices: int) -> csr_array:
    """The operator `(V, F)` that sums values over the faces `(F, 3)` around each vertex."""
    place = faces.T.ravel(), np.tile(np.arange(len(faces)), 3)
    return coo_array((np.ones(faces.size), place), shape=(vertices, len(faces))).tocsr()


def face_normals(vertices: NDArray[Real], faces: NDArray[np.integer]) -> NDArray[Real]:
    """Normals `(F, 3)` of vertices `(V, 3)`; the length of each is twice the face's area.

    Written out, because np.cross takes three times as long.
    """
    a, b, c = (vertices[corner] for corner in faces.T)
    p, q = b - a, c - a
    out: NDArray[Real] = np.empty_like(p)
    for axis, (i, j) in enumerate(((1, 2), (2, 0), (0, 1))):
        out[:, axis] = p[:, i] * q[:, j] - p[:, j] * q[:, i]
    return out
