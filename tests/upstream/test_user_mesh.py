"""{Video + 3D} -> 4D: the user's mesh is animated and keeps its vertices, UVs and texture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actionmesh_wrapper import ActionMeshPipeline
from errors import Cancelled
from intake.glb_reader import read_glb
from meshes.sequence import MeshSequence
from tests.intake.glb_files import PICTURE, glb
from tests.upstream import tiny
from tests.upstream.recording_reporter import RecordingReporter
from upstream.user_mesh import normalize_upload

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),
]


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    """A textured tetrahedron of 30 units, off the origin."""
    path = tmp_path / "mesh.glb"
    path.write_bytes(glb(nodes=[{"mesh": 0, "scale": [30, 30, 30], "translation": [500, 0, 7]}]))
    return path


def moved(
    pipeline: ActionMeshPipeline, upload: Path, seed: int, report: RecordingReporter | None = None
) -> MeshSequence:
    return pipeline.animate(
        tiny.clip_of(16), "fast", seed, report or RecordingReporter(), mesh=upload
    )


def test_vertices_uv_and_texture_are_the_uploads(
    resident: ActionMeshPipeline, upload: Path
) -> None:
    report = RecordingReporter()
    made, wanted = moved(resident, upload, 1, report), read_glb(upload)
    assert len(made) == 16
    assert np.array_equal(made.faces, wanted.faces)
    assert np.array_equal(made.vertices[0], wanted.vertices.astype(np.float32))
    assert made.texture is not None and wanted.texture is not None
    assert made.texture.image == PICTURE
    assert np.array_equal(made.texture.uv, wanted.texture.uv)
    # moved within the cube around the upload, in the upload's units
    assert (made.vertices[1:] != made.vertices[0]).any()
    assert np.abs(made.vertices - [515, 15, 22]).max() <= 15.001
    assert len(report.anchors) == 1
    assert [stage for stage, step, steps in report.steps if step == steps].index("shape") > 0


def test_the_seed_is_used_and_later_jobs_are_unchanged(
    resident: ActionMeshPipeline, upload: Path
) -> None:
    clip = tiny.clip_of(16)
    ordinary = resident.animate(clip, "fast", 2, RecordingReporter())
    first, again, other = (moved(resident, upload, seed) for seed in (2, 2, 3))
    assert np.array_equal(first.vertices, again.vertices)
    assert (first.vertices != other.vertices).any()
    with pytest.raises(Cancelled):
        moved(resident, upload, 2, RecordingReporter(cancel_in="shape"))
    assert np.array_equal(
        resident.animate(clip, "fast", 2, RecordingReporter()).vertices, ordinary.vertices
    )


def test_no_second_copy_of_the_weights_is_made(resident: ActionMeshPipeline, upload: Path) -> None:
    import gc

    import torch

    def parameters() -> int:
        gc.collect()
        return sum(1 for thing in gc.get_objects() if isinstance(thing, torch.nn.Parameter))

    before = parameters()
    moved(resident, upload, 4)
    assert parameters() == before


def test_equal_vertices_are_merged_and_expanded_again(opened: Path, tmp_path: Path) -> None:
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=1)
    corners = ball.vertices[ball.faces].reshape(-1, 3)  # each face with vertices of its own
    faces = np.arange(len(corners)).reshape(-1, 3)
    path = tmp_path / "ball.glb"
    trimesh.Trimesh(corners * 40 + 3, faces, process=False).export(path)
    user_mesh = normalize_upload(read_glb(path))
    assert len(user_mesh.mesh.vertices) == len(ball.vertices)
    made = user_mesh.sequence(np.stack([user_mesh.mesh.vertices] * 2).astype(np.float32), 12.0)
    assert made.vertices.shape == (2, len(corners), 3)
    assert np.allclose(made.vertices[1], corners * 40 + 3, atol=1e-4)
