"""The Khronos validator finds no error in the files that we write.

It is an npm package: `npm install --prefix FOLDER gltf-validator@2.0.0-dev.3.10`, then
GLTF_VALIDATOR=FOLDER. Without node or the package the test is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from meshes.compact import gltfpack_path, write_compact
from meshes.gltf import write_animated, write_frames
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence, Texture
from meshes.skin import Skin
from meshes.skinned_glb import write_skinned
from tests.meshes.animal_in_view import animal_in_view
from tests.meshes.bending_tube import bending_tube, one_bone
from tests.meshes.walking_animal import walking_animal

SCRIPT = Path(__file__).with_name("validate_glb.mjs")


@pytest.fixture(scope="module")
def validator() -> Path:
    folder = os.environ.get("GLTF_VALIDATOR", "")
    if not folder:
        pytest.skip("GLTF_VALIDATOR is not set")
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (Path(folder) / "node_modules" / "gltf-validator").is_dir():
        pytest.skip(f"no node_modules/gltf-validator in {folder}")
    return Path(folder)


def _sequences() -> dict[str, MeshSequence]:
    textured = walking_animal(2, rings=24)
    assert textured.texture
    pixels = cv2.imdecode(np.frombuffer(textured.texture.image, np.uint8), cv2.IMREAD_COLOR)
    png = Texture(cv2.imencode(".png", pixels)[1].tobytes(), "image/png", textured.texture.uv)
    flat = np.zeros((2, 4, 3), np.float32)
    return {
        **{
            f"{kind}_{n}": walking_animal(n, 24, kind)
            for kind in ("plain", "coloured")
            for n in (1, 2)
        },
        **{f"textured_{n}": walking_animal(n, rings=24) for n in (1, 2, 16, 31)},
        "png": replace(textured, texture=png),
        "own_textures": replace(textured, frame_textures=(None, png)),
        "plain_31": walking_animal(31, rings=24, kind="plain", fps=29.97),
        **{f"filmed_{n}": animal_in_view(n) for n in (1, 3)},
        "baked": replace(animal_in_view(2), has_baked_light=True),
        "baked_colours": replace(animal_in_view(2, kind="coloured"), has_baked_light=True),
        "followed": animal_in_view(3, is_moving=True),
        "orthographic": animal_in_view(2, is_orthographic=True),
        "long_indices": walking_animal(2, rings=257, kind="plain"),
        "flat_and_lonely": MeshSequence(flat, np.array([[0, 1, 2]], np.int32), 8),
    }


def _skinned() -> dict[str, tuple[MeshSequence, Skin]]:
    animal = replace(animal_in_view(3, is_moving=True), has_baked_light=True)
    still = replace(animal_in_view(2), vertices=np.repeat(animal_in_view(1).vertices, 2, axis=0))
    return {
        "tube": bending_tube(),
        "followed": (animal, one_bone(animal)),
        "still": (still, one_bone(still)),
        "one": (animal_in_view(1), one_bone(animal_in_view(1))),
    }


def test_the_khronos_validator_finds_no_error_and_no_warning(
    tmp_path: Path, validator: Path
) -> None:
    paths = []
    for name, sequence in _sequences().items():
        normals = vertex_normals(sequence)
        folder = tmp_path / name
        folder.mkdir()
        write_animated(sequence, normals, folder / "animated_mesh.glb", {"pipeline": "silhouette"})
        paths += [folder / "animated_mesh.glb", *write_frames(sequence, normals, folder)[:2]]
    for name, (sequence, skin) in _skinned().items():
        paths.append(tmp_path / f"skinned_{name}.glb")
        write_skinned(sequence, skin, vertex_normals(sequence), paths[-1], {"rms": 0.001})
    for path in (paths[0], paths[-1]) if gltfpack_path() else ():
        # it cannot look into the compressed arrays
        paths.append(path.with_name(f"compact_{path.name}"))
        write_compact(path, paths[-1], has_skin=path.name.startswith("skinned"))
    done = subprocess.run(
        ["node", str(SCRIPT), *map(str, paths)],
        env={**os.environ, "GLTF_VALIDATOR": str(validator)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    assert len(reports) == len(paths)
    for report in reports:
        assert report["errors"] == report["warnings"] == 0, report
