"""Runs xatlas on one mesh: the program that unwrap.py starts by path.

`python xatlas_script.py <size_px>` reads vertices and faces from standard input and writes
vertex_map, faces, uv and chart numbers (-1: in no chart) to standard output, each as one .npy.
Exit status NO_XATLAS: it is not installed.
"""

import io
import sys

import numpy as np
from numpy.typing import NDArray

NO_XATLAS = 4
PADDING_PX = 4
"""Between charts. xatlas's pictures are up to 1.3 times as large as asked for, so 3 px are left."""
LEAST_CHARTS = 25
"""On a smooth shape of 40,000 faces large charts take three times as long (8 s of CPU, not 2.5)."""


def area(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> float:
    """Of the surface; not 0, which would be no limit."""
    a, b, c = vertices.astype(float)[faces].transpose(1, 0, 2)
    return max(float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2), 1e-12)


def main() -> None:
    try:
        import xatlas
    except ImportError:
        sys.exit(NO_XATLAS)
    stdin = io.BytesIO(sys.stdin.buffer.read())
    vertices, faces = np.load(stdin), np.load(stdin)
    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices, faces.astype(np.uint32))
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    charts.max_chart_area = area(vertices, faces) / LEAST_CHARTS
    packing.resolution = int(sys.argv[1])
    packing.padding = PADDING_PX
    packing.bilinear = True
    packing.create_image = False
    atlas.generate(charts, packing)
    vertex_map, new_faces, uv = atlas[0]
    # one scale for both axes: the picture becomes a square
    uv = uv * (atlas.width, atlas.height) / max(atlas.width, atlas.height)
    _, charts_of_vertices = atlas.get_mesh_vertex_assignment(0)
    for indices in (vertex_map, new_faces):
        np.save(sys.stdout.buffer, indices.astype(np.int32))
    np.save(sys.stdout.buffer, uv.astype(np.float32))
    np.save(sys.stdout.buffer, charts_of_vertices.astype(np.int32))


if __name__ == "__main__":
    main()
