"""A browser decodes compact files, by the lines of docs/engines.md, to what they were made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from meshes.compact import gltfpack_path, write_compact
from meshes.gltf import write_animated
from meshes.normals import vertex_normals
from meshes.skinned_glb import write_skinned
from tests.meshes.bending_tube import textured_tube
from tests.meshes.browser_reader import read, served
from tests.web.browser import new_tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.skipif(gltfpack_path() is None, reason="gltfpack is not installed (make gltfpack)")
def test_threejs_shows_the_vertices_of_compact_files(browser: Browser, tmp_path: Path) -> None:
    sequence, skin = textured_tube(5)
    normals, plain = vertex_normals(sequence), tmp_path / "plain.glb"
    files = {kind: tmp_path / f"{kind}.glb" for kind in ("morphed", "skinned")}
    write_animated(sequence, normals, plain)
    write_compact(plain, files["morphed"], has_skin=False)
    write_skinned(sequence, skin, normals, plain)
    write_compact(plain, files["skinned"], has_skin=True)
    assert sequence.texture
    times = [step / sequence.fps for step in range(len(sequence))]
    pages = tmp_path / "pages"
    pages.mkdir()
    with (
        served({path.name: path for path in files.values()}, pages) as url,
        new_tab(browser, url) as tab,
    ):
        for path in files.values():
            seen = read(tab, "three_reader.html", path.name, times)
            away = seen.distances(sequence.vertices.astype(np.float64), sequence.texture.uv)
            assert away.max() < 2e-4  # of a tube 1.6 long, in 16 bits
