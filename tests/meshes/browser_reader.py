"""Opens GLB files in a real browser, with three.js or model-viewer. Not a test itself.

The decoder of compact files is the npm package `meshoptimizer` in the folder that
GLTF_VALIDATOR names; `@google/model-viewer` is looked for there too.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.meshes.seen_mesh import SeenMesh
from tests.web.browser import Tab

HERE = Path(__file__).parent
THREE = HERE.parents[1] / "web" / "vendor"
PAGES = ("three_reader.html", "model_viewer_reader.html", "browser_reader.js")
DECODER = "meshoptimizer/meshopt_decoder"
MODEL_VIEWER = "@google/model-viewer/dist/model-viewer.min.js"


def packages() -> Path:
    """node_modules of the folder that GLTF_VALIDATOR names; skips the test without the decoder."""
    folder = Path(os.environ.get("GLTF_VALIDATOR", "/nowhere")) / "node_modules"
    if not (folder / f"{DECODER}.mjs").is_file():
        pytest.skip("GLTF_VALIDATOR names no folder with the npm package meshoptimizer")
    return folder


@contextmanager
def served(files: Mapping[str, Path], folder: Path) -> Iterator[str]:
    """The address of the reader pages with these files beside them, all copied into `folder`."""
    modules = packages()
    sources = [HERE / name for name in PAGES] + sorted(THREE.glob("*.js"))
    copies = {source.name: source for source in sources} | dict(files)
    copies["meshopt_decoder.mjs"] = modules / f"{DECODER}.mjs"
    copies["meshopt_decoder.js"] = modules / f"{DECODER}.cjs"
    if (modules / MODEL_VIEWER).is_file():
        copies["model-viewer.min.js"] = modules / MODEL_VIEWER
    for name, source in copies.items():
        shutil.copyfile(source, folder / name)
    handler = partial(_Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def read(tab: Tab, page: str, name: str, times: Sequence[float]) -> SeenMesh:
    """The file `name` at these times in seconds, as the page shows it, in the file's own axes."""
    tab.open(page)
    tab.until("globalThis.readGlb")
    found = tab.evaluate("([name, times]) => readGlb(name, times)", [name, list(times)])
    frames = np.array(found["frames"]).reshape(len(times), -1, 3)
    return SeenMesh(frames, np.array(found["uv"]).reshape(-1, 2))


class _Quiet(SimpleHTTPRequestHandler):
    """Writes no line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        pass
