"""Compares what other programs show of a job's files: `python -m benchmarks.engines`.

Prints Markdown: the sizes of the files, and for each program how far the vertices are from the
truth at seven times: timesteps 0, 7, 15, 22, 30 and between two of them. three.js and model-viewer
run in Chromium and need GLTF_VALIDATOR (tests/meshes/browser_reader.py), Blender is BLENDER_PATH or
that in PATH, Godot is Debian's godot3-server. What is not installed has no rows.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.quality_case import dancing_sprout
from meshes.compact import gltfpack_path, write_compact
from meshes.gltf import write_animated
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from meshes.skin import Skin
from meshes.skinned_glb import write_skinned
from meshes.skinning import fit_skin
from silhouette.pipeline import SilhouettePipeline
from subject.find import find_subject
from tests.meshes.blender_reading import read_with_blender
from tests.meshes.browser_reader import MODEL_VIEWER, packages, read, served
from tests.meshes.godot_reading import PROGRAM, read_with_godot
from tests.meshes.seen_mesh import SeenMesh
from tests.silhouette.measure import ReportLog
from tests.web.browser import chromium, new_tab

ANIMATED, SKINNED = "animated_mesh", "skinned_mesh"
COMPACT = {ANIMATED: "compact_of_animated", SKINNED: "compact_of_skinned"}
STEPS = np.array([0, 7, 15, 22, 30, 7.5, 22.5])
"""Timesteps that are compared; the truth between two of them is the mean of both."""

NOTES = """
Per cent of the diagonal of timestep 0's bounding box; each figure is the largest of seven times.
rms, largest: distance of the vertices from the sequence's. rms / skin's own: that rms, divided by
the rms of the skin computed with numpy. From the file: largest distance from what the file means:
the sequence, or the skin computed with numpy; for compact files that is their quantisation."""


@dataclass(frozen=True)
class Case:
    """A sequence, its skin, and the files that were made of both, by name without suffix."""

    name: str
    sequence: MeshSequence
    skin: Skin
    files: Mapping[str, Path]

    @property
    def times(self) -> list[float]:
        """In seconds."""
        return [float(step / self.sequence.fps) for step in STEPS]

    @property
    def truth(self) -> NDArray[np.float64]:
        """`(7, V, 3)`."""
        vertices = self.sequence.vertices.astype(np.float64)
        below, above = np.floor(STEPS).astype(int), np.ceil(STEPS).astype(int)
        return np.asarray((vertices[below] + vertices[above]) / 2)

    @property
    def moved_by_skin(self) -> NDArray[np.float64]:
        """`(7, V, 3)`: by the skin, with numpy."""
        rest = self.sequence.vertices[0]
        return np.stack([pose_between(self.skin, rest, float(step)) for step in STEPS])


def pose_between(skin: Skin, rest: NDArray[np.float32], step: float) -> NDArray[np.float64]:
    """The pose at a timestep or between two: bones move linearly and turn evenly in their parents.

    As glTF defines it; independent of the files.
    """
    positions, rotations = skin.local_motion()
    below, share = int(step), step - int(step)
    above = min(below + 1, len(skin) - 1)
    places = positions[below] + share * (positions[above] - positions[below])
    first, second = (Rotation.from_quat(rotations[k]) for k in (below, above))
    turns = first * Rotation.from_rotvec(share * (first.inv() * second).as_rotvec())
    places, turned = places.astype(np.float64), list(turns)
    for bone, parent in enumerate(skin.parents):
        if parent >= 0:
            places[bone] = places[parent] + turned[parent].apply(places[bone])
            turned[bone] = turned[parent] * turned[bone]
    still = replace(
        skin,
        positions=places[None].astype(np.float32),
        rotations=np.stack([turn.as_quat() for turn in turned])[None].astype(np.float32),
    )
    return still.pose(rest, 0)


def main() -> None:
    """Make the files, measure and print."""
    with tempfile.TemporaryDirectory(prefix="engines_") as folder:
        cases = [_made(name, sequence, Path(folder)) for name, sequence in _sequences()]
        print("| mesh | animated | skinned | compact, of animated | compact, of skinned |")
        print("|---|---|---|---|---|")
        for case in cases:
            sizes = [f"{path.stat().st_size / 1e6:.2f} MB" for path in case.files.values()]
            print(f"| {case.name} | " + " | ".join(sizes) + " |")
        print(
            "\n| program | file | mesh | rms % | largest % | rms / skin's own | from the file % |"
        )
        print("|---|---|---|---|---|---|---|")
        for case in cases:
            _print_rows(case, Path(folder))
    print(NOTES)


def _sequences() -> Iterator[tuple[str, MeshSequence]]:
    clip, sequence = dancing_sprout()
    yield f"demo, {_shape(sequence)}", sequence
    found = find_subject(clip, None, ReportLog()).clip
    large = SilhouettePipeline().animate(found, "default", 44, ReportLog(), faces=40_000)
    yield f"faces=40000, {_shape(large)}", large


def _shape(sequence: MeshSequence) -> str:
    return f"{len(sequence)} x {len(sequence.faces):,} triangles"


def _made(name: str, sequence: MeshSequence, folder: Path) -> Case:
    """Write all files. Without gltfpack there are no compact ones."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    normals = vertex_normals(sequence)
    skin = fit_skin(sequence.vertices, lambda _: None).skin
    files = {kind: folder / f"{kind}.glb" for kind in (ANIMATED, SKINNED)}
    write_animated(sequence, normals, files[ANIMATED])
    write_skinned(sequence, skin, normals, files[SKINNED])
    for kind, compact in COMPACT.items() if gltfpack_path() else ():
        files[compact] = folder / f"{compact}.glb"
        write_compact(files[kind], files[compact], has_skin=kind == SKINNED)
    return Case(name, sequence, skin, files)


def _print_rows(case: Case, folder: Path) -> None:
    """One row for each program and file: the largest of the seven times' figures.

    At 0 s the skin is exact, so that time counts for the last figure only.
    """
    assert case.sequence.texture is not None
    uv, truth, skinned = case.sequence.texture.uv, case.truth, case.moved_by_skin
    size = float(np.linalg.norm(np.ptp(truth[0], axis=0)))
    own = _rms(np.linalg.norm(skinned - truth, axis=2) / size)
    for program, meshes in _programs(case, Path(tempfile.mkdtemp(dir=folder))):
        for kind, mesh in meshes.items():
            away = mesh.distances(truth, uv) / size
            has_skin = kind in (SKINNED, COMPACT[SKINNED])
            ratio = f"{(_rms(away)[1:] / own[1:]).max():.4f}" if has_skin else ""
            meant = mesh.distances(skinned if has_skin else truth, uv).max() / size
            print(
                f"| {program} | {kind} | {case.name} | {100 * _rms(away).max():.4f} "
                f"| {100 * away.max():.3f} | {ratio} | {100 * meant:.4f} |",
                flush=True,
            )


def _rms(away: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each time."""
    return np.asarray(np.sqrt((away**2).mean(axis=1)))


def _programs(case: Case, folder: Path) -> Iterator[tuple[str, dict[str, SeenMesh]]]:
    """Every installed program, and what it shows of the files that it can read."""
    yield from _browsers(case, folder)
    blender = os.environ.get("BLENDER_PATH") or shutil.which("blender")
    if blender:
        plain = [case.files[ANIMATED], case.files[SKINNED]]
        # at all timesteps and half-way between them
        found = read_with_blender(blender, plain, 2 * len(case.sequence) - 1, 2 * case.sequence.fps)
        at = (2 * STEPS).astype(int)
        seen = [SeenMesh(arrays["vertices"][at]) for arrays in found]
        yield "Blender", dict(zip((ANIMATED, SKINNED), seen, strict=True))
    if shutil.which(PROGRAM):
        project = folder / "godot"
        project.mkdir()
        yield "Godot", read_with_godot(case.files, case.times, project)


def _browsers(case: Case, folder: Path) -> Iterator[tuple[str, dict[str, SeenMesh]]]:
    pages = {"three.js": "three_reader.html"}
    if (packages() / MODEL_VIEWER).is_file():
        pages["model-viewer"] = "model_viewer_reader.html"
    names = {path.name: path for path in case.files.values()}
    with served(names, folder) as url, chromium() as browser:
        for program, page in pages.items():
            seen = {}
            for kind, path in case.files.items():
                with new_tab(browser, url) as tab:
                    seen[kind] = read(tab, page, path.name, case.times)
            yield program, seen


if __name__ == "__main__":
    main()
