"""{Video + 3D} -> 4D: uses an uploaded mesh instead of the one that stage 0 would make.

Like upstream's ActionMeshPipelineWithMeshInput (actionmesh/pipeline_with_3d.py at the pinned
commit), with three differences: the seed reaches every random choice, TripoSG's loaded encoder is
used instead of a second copy, and PyTorch3D is not needed. The mesh must have the subject's pose in
the first frame: +Y up, front towards +Z. Called by actionmesh_wrapper.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import InvalidParameter
from intake.glb_reader import Upload
from meshes.sequence import MeshSequence
from pipeline import Reporter
from upstream.anchor import Anchor
from upstream.engine import Engine

SURFACE_POINTS = 16_384
"""Number of points, with normals, for the encoder; upstream's value."""

_SAME_PLACE = 1e-6


@dataclass(frozen=True)
class UserMesh:
    """An upload and its copy in [-1, 1]; `vertices * scale + centre` are the original positions.

    `mesh` (trimesh) has equal vertices merged, as the encoder needs; `index` (V,) maps uploaded
    vertices to its vertices, and `offset` (V, 3) is their distance: 0, except for vertices of
    degenerate faces.
    """

    upload: Upload
    mesh: Any
    index: NDArray[np.int64]
    offset: NDArray[np.float64]
    centre: NDArray[np.float64]
    scale: float

    def make_anchor(self, engine: Engine, seed: int, reporter: Reporter) -> Anchor:
        """The latent of the mesh by TripoSG's encoder, the same for the same seed."""
        import torch
        from actionmesh.preprocessing.mesh_processor import sample_surface

        reporter.progress("shape", 0, 1, "your mesh")
        vae = engine.pipe.image_to_3d_pipe.vae
        with engine.on_device("shape"), _seeded_sampling(vae):
            surface = sample_surface(
                self.mesh,
                n_points=SURFACE_POINTS,
                seed=seed,
                with_normals=True,
                device=engine.device,
                dtype=vae.dtype,
            )
            tokens = engine.pipe._denoiser_latent_shape[0]
            posterior = vae.encode(surface, num_tokens=tokens, seed=seed).latent_dist
            latent = posterior.sample(torch.Generator(device=vae.device).manual_seed(seed))
        reporter.progress("shape", 1, 1, "your mesh")
        return Anchor.finished(seed, latent, self.mesh)

    def sequence(self, vertices: NDArray[np.float32], fps: float) -> MeshSequence:
        """(T, merged, 3) in the cube -> the uploaded vertices in their order, axes and units.

        Timestep 0 is the upload itself; faces, texture and baked light are the upload's.
        """
        moved = (vertices[:, self.index].astype(np.float64) + self.offset) * self.scale
        moved += self.centre
        moved[0] = self.upload.vertices
        return MeshSequence(
            moved.astype(np.float32),
            self.upload.faces,
            fps,
            texture=self.upload.texture,
            has_baked_light=self.upload.has_baked_light,
        )


def normalize_upload(upload: Upload) -> UserMesh:
    """Scale to [-1, 1] and merge equal vertices. Upstream merges by an absolute distance."""
    import trimesh
    from actionmesh.preprocessing import mesh_processor
    from scipy.spatial import cKDTree

    low, high = upload.vertices.min(axis=0), upload.vertices.max(axis=0)
    centre, scale = (low + high) / 2, float((high - low).max()) / 2
    placed = (upload.vertices - centre) / scale
    mesh = trimesh.Trimesh(placed, upload.faces, process=False)
    mesh.merge_vertices()
    mesh_processor.remove_degenerate_faces(mesh)
    mesh_processor.remove_duplicate_faces(mesh)
    mesh_processor.remove_unreferenced_vertices(mesh)
    if len(mesh.faces) == 0:
        raise InvalidParameter("The mesh has no triangle with an area.", field="mesh")
    distance, index = cKDTree(mesh.vertices).query(placed)
    merged = (distance < _SAME_PLACE)[:, None]
    offset = np.where(merged, 0.0, placed - np.asarray(mesh.vertices)[index])
    return UserMesh(upload, mesh, index, offset, centre, scale)


def farthest_points(points: Any, count: int, start: int = 0) -> Any:
    """Indices (count,) of points (N, D): each the farthest from all before it, `start` first.

    Eldar et al., "The farthest point strategy for progressive image sampling", 1997. O(N * count),
    on the points' own device. Raises ValueError for more points than there are.
    """
    import torch

    if not 0 < count <= len(points):
        raise ValueError(f"{count} of {len(points)} points cannot be chosen")
    points = points.float()  # squared distances overflow in float16
    nearest = torch.full((len(points),), float("inf"), device=points.device)
    chosen = torch.empty(count, dtype=torch.long, device=points.device)
    last = torch.tensor([start], device=points.device)
    for k in range(count):  # stays on the device: an index of no dimension would be read back
        chosen[k : k + 1] = last
        nearest = torch.minimum(nearest, (points - points[last]).square().sum(dim=1))
        last = nearest.argmax(dim=0, keepdim=True)
    return chosen


@contextmanager
def _seeded_sampling(vae: Any) -> Iterator[None]:
    """Replace TripoSG's sampling, which needs torch_cluster, by ours."""

    def sample_features(points: Any, num_tokens: int = 2048, seed: int | None = None) -> Any:
        """(B, N, C) -> (B, num_tokens, C), far apart by position."""
        import torch

        rng = np.random.default_rng(seed)
        wanted = num_tokens * 4
        rough = rng.choice(points.shape[1], wanted, replace=wanted > points.shape[1])
        few = points[:, torch.from_numpy(rough).to(points.device)]
        start = int(rng.integers(wanted))
        chosen = torch.stack([farthest_points(cloud[:, :3], num_tokens, start) for cloud in few])
        return torch.take_along_dim(few, chosen[..., None], dim=1)

    vae._sample_features = sample_features
    try:
        yield
    finally:
        del vae._sample_features
