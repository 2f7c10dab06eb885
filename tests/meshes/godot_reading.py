"""Imports GLBs into a Godot 3 project without a window, and moves the vertices as Godot does.

godot_reader.gd gives Godot's vertices, weights and bones; Godot moves them in its shaders, which a
headless Godot has not.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.meshes.seen_mesh import SeenMesh

SCRIPT = Path(__file__).with_name("godot_reader.gd")
PROGRAM = "godot3-server"
_TIMEOUT_S = 120.0


def read_with_godot(
    files: Mapping[str, Path], times: Sequence[float], project: Path
) -> dict[str, SeenMesh]:
    """What Godot's importer makes of these files, by name (no suffix), at times in seconds.

    The first time is 0. A file that Godot does not import is left out. `project` is empty.
    """
    (project / "project.godot").write_text("config_version=4\n")
    for name, path in files.items():
        shutil.copyfile(path, project / f"{name}.glb")
    shutil.copyfile(SCRIPT, project / SCRIPT.name)
    _import(project, len(files))
    imported = [name for name in files if list(project.glob(f".import/{name}.glb-*.scn"))]
    (project / "names.json").write_text(json.dumps(imported))
    (project / "times.json").write_text(json.dumps(list(times)))
    command = [PROGRAM, "--path", str(project), "-s", SCRIPT.name]
    subprocess.run(command, timeout=_TIMEOUT_S, **_quiet(project))
    return {name: _moved(json.loads((project / f"{name}.json").read_text())) for name in imported}


def _import(project: Path, count: int) -> None:
    """Let the editor import all files. It does not always end then, so it is ended."""
    command = [PROGRAM, "--path", str(project), "--editor", "--quit"]
    editor = subprocess.Popen(command, **_quiet(project))
    deadline = time.monotonic() + _TIMEOUT_S
    try:
        # a file's .md5 is written last
        while editor.poll() is None and len(list(project.glob(".import/*.md5"))) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"Godot did not import in {_TIMEOUT_S:g} s")
            time.sleep(0.1)
    finally:
        editor.kill()
        editor.wait()


def _quiet(project: Path) -> dict[str, Any]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(project), "LC_ALL": "C.UTF-8"}
    silent = subprocess.DEVNULL
    return {"env": environment, "stdin": silent, "stdout": silent, "stderr": silent}


def _moved(found: dict[str, Any]) -> SeenMesh:
    """Godot's arrays, with morph targets or bones applied."""
    rest = np.array(found["vertices"]).reshape(-1, 3)
    uv = np.array(found["uv"]).reshape(-1, 2)
    frames = np.array(found["frames"])
    if not found["joints"]:
        targets = np.array(found["targets"]).reshape(frames.shape[1], -1, 3)
        return SeenMesh(rest + np.einsum("tk,kvi->tvi", frames, targets - rest), uv)
    joints = np.array(found["joints"], int).reshape(-1, 4)
    weights = np.array(found["weights"]).reshape(-1, 4)
    matrices = frames.reshape(len(frames), -1, 4, 3)  # three columns and the origin
    return SeenMesh(np.stack([_skinned(rest, joints, weights, each) for each in matrices]), uv)


def _skinned(
    rest: NDArray[np.float64],
    joints: NDArray[np.int64],
    weights: NDArray[np.float64],
    matrices: NDArray[np.float64],
) -> NDArray[np.float64]:
    extended = np.concatenate([rest, np.ones((len(rest), 1))], axis=1)
    moved = np.einsum("vk,vkij,vi->vj", weights, matrices[joints], extended)
    return np.asarray(moved)
