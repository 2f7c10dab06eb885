"""View, score and colours through the whole service: truth clips are posted, files come back.

The pipeline returns the meshes that a test has put down for a seed. Needs TEST_MEDIA.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.truth import Truth, generated, load_truth
from client import Client
from meshes.sequence import MeshSequence
from tests.meshes.glb_reader import ReadGlb
from tests.servers import process_server

pytestmark = pytest.mark.slow
MOTION = {"motion_mismatch", "motion_weak"}
FACES = 6_000
"""Enough for the figures below, and cheap to paint and to draw."""


@dataclass(frozen=True)
class Service:
    """A server whose pipeline gives the meshes that `run` is called with."""

    client: Client
    folder: Path
    truth: Truth
    clip: Path

    def run(self, meshes: MeshSequence, **options: Any) -> dict[str, Any]:
        """The finished job of the clip with these meshes."""
        seed = len(list(self.folder.glob("*.npz")))
        meshes.save(self.folder / f"{seed}.npz")
        return self.client.wait(self.client.submit(self.clip, seed=seed, **options), timeout=300)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, test_media: Path) -> Iterator[Service]:
    """One for all tests here."""
    folder = tmp_path_factory.mktemp("service")
    truth = load_truth(test_media, "robot_wave")
    clip = test_media / "truth" / "robot_wave.zip"
    with process_server(folder, PIPELINE="tests.pipelines:ReadsItsMeshes") as server:
        yield Service(Client(server.url), folder, truth, clip)


@pytest.mark.parametrize(("noise", "angle_deg", "overlap"), [(0.0, 2.5, 0.90), (0.015, 6.0, 0.85)])
def test_a_good_mesh_comes_back_aligned_scored_and_coloured(
    service: Service, tmp_path: Path, noise: float, angle_deg: float, overlap: float
) -> None:
    job = service.run(generated(service.truth.meshes, noise, FACES))
    codes = {warning["code"] for warning in job["warnings"]}
    assert not codes & {*MOTION, "outline_poor", "view_ambiguous", "texture_skipped"}
    assert _angle_deg(job["view"], service.truth.view.to_dict()) <= angle_deg
    assert job["score"]["outline_mean"] >= overlap
    assert job["texture"]["state"] == "baked" and job["texture"]["seen"] > 0.15
    paths = service.client.save(job["job_id"], tmp_path, what="all")
    [animated] = [path for path in paths if path.name == "animated_mesh.glb"]
    glb = ReadGlb(animated.read_bytes())
    assert glb.attribute("TEXCOORD_0").shape == (job["mesh"]["vertices"], 2)
    assert "video" in [node.get("name") for node in glb.tree["nodes"] if "camera" in node]
    for t in (0, 9):
        inside = _share_inside(glb.morphed("POSITION", t), job["view"], service.truth, t)
        assert inside > 0.95


@pytest.mark.parametrize("wrong", ["shuffled", "reversed", "frozen"])
def test_meshes_that_move_otherwise_are_warned_of(service: Service, wrong: str) -> None:
    meshes = generated(service.truth.meshes, 0.015, FACES)
    orders = {
        "shuffled": np.random.default_rng(0).permutation(16),
        "reversed": np.arange(15, -1, -1),
        "frozen": np.zeros(16, int),
    }
    moved = replace(meshes, vertices=np.ascontiguousarray(meshes.vertices[orders[wrong]]))
    job = service.run(moved, texture="none")
    assert MOTION & {warning["code"] for warning in job["warnings"]}


def test_the_meshes_of_another_subject_get_no_colours(service: Service, test_media: Path) -> None:
    job = service.run(generated(load_truth(test_media, "fox_walk").meshes, 0.015, FACES))
    assert job["texture"]["state"] == "skipped" and job["texture"]["reason"]
    codes = {warning["code"] for warning in job["warnings"]}
    assert {"texture_skipped", "outline_poor"} <= codes


def _angle_deg(found: dict[str, Any], true: dict[str, Any]) -> float:
    """Between the directions in which two cameras stand, as the API shows them."""
    angles = [np.radians((view["azimuth"], view["elevation"])) for view in (found, true)]
    one, other = (
        np.array([np.sin(az) * np.cos(el), np.sin(el), np.cos(az) * np.cos(el)])
        for az, el in angles
    )
    return float(np.degrees(np.arccos(np.clip(one @ other, -1, 1))))


def _share_inside(
    vertices: NDArray[np.float32], view: dict[str, Any], truth: Truth, t: int
) -> float:
    """How many vertices lie on the subject's pixels, through the matrix of the API."""
    u, v, w = np.array(view["matrix"]) @ np.column_stack([vertices, np.ones(len(vertices))]).T
    x, y = (np.clip(at / w, 0, 511).astype(int) for at in (u, v))
    subject = (truth.clip.frames[t][..., 3] > 0).astype(np.uint8)
    near = cv2.dilate(subject, np.ones((9, 9), np.uint8))  # the mesh is only nearly right
    return float(near[y, x].mean())
