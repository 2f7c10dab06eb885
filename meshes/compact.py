"""Makes a small GLB for the web from one of ours, with gltfpack in a process of its own.

gltfpack (MIT) is meshoptimizer's own program: it quantises the arrays (KHR_mesh_quantization),
reorders vertices and faces, and compresses both (EXT_meshopt_compression). Called by
child/exports.py; imports no numpy, since the API process asks here whether gltfpack is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from meshes.external_tools import Launch, ToolFailed, run_tool

# -kn -km -ke: keep the names of nodes and materials, the camera's node, and extras. -af 0: the
# animation's own keys, not 30 a second. -vtf: quantised texture coordinates would need a third
# extension. Rotations of 16 bits. The normals of an unlit surface are left out.
_FLAGS = ("-cc", "-kn", "-km", "-ke", "-af", "0", "-vtf", "-ar", "16")
_MORPH_POSITIONS = ("-vp", "16")
"""16 bits of the size: 16 % smaller than floats of 15 bits."""
_SKIN_POSITIONS = ("-vpf",)
"""Floats, as small: for integers the skin's mesh gets a transform, of which the validator warns."""
_EXTENSION = b'"EXT_meshopt_compression"'


def gltfpack_path() -> str | None:
    """The gltfpack that `make gltfpack` put beside this Python, or the one in PATH."""
    return shutil.which("gltfpack", path=_search_path())


def write_compact(
    source: Path,
    target: Path,
    *,
    has_skin: bool,
    launch: Launch = subprocess.Popen,
    timeout_s: float = 120.0,
    while_waiting: Callable[[], None] | None = None,
) -> None:
    """Write `target`, the compact form of the GLB `source`, completely or not at all.

    `has_skin`: bones move the source, not morph targets. Node maps 10 GB of address space for
    WebAssembly, so `launch` must allow more; 121 timesteps of 40,000 faces use 0.25 GB and 0.8 s.
    `while_waiting` is called ten times a second; what it raises ends gltfpack and reaches the
    caller. Raises ToolFailed, also where gltfpack is missing. No process is left in any case.
    """
    target.unlink(missing_ok=True)
    gltfpack = gltfpack_path()
    if gltfpack is None:
        raise ToolFailed("gltfpack is not installed")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="compact-") as temporary:
        made = Path(temporary) / "compact.glb"
        positions = _SKIN_POSITIONS if has_skin else _MORPH_POSITIONS
        output = run_tool(
            "gltfpack",
            [gltfpack, "-i", str(source.absolute()), "-o", made.name, *_FLAGS, *positions],
            workdir=made.parent,
            launch=launch,
            timeout_s=timeout_s,
            while_waiting=while_waiting,
            path=_search_path(),  # gltfpack starts `node`
        )
        if not made.is_file() or made.is_symlink() or not _is_compact(made.read_bytes()):
            raise ToolFailed("gltfpack did not write a compressed GLB", output)
        made.replace(target)


def _search_path() -> str:
    """PATH with this Python's own folder first: a virtual environment that is not activated."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _is_compact(content: bytes) -> bool:
    """Whether it is a GLB of its full length with the extension in its JSON."""
    length, text_length = (int.from_bytes(content[at : at + 4], "little") for at in (8, 12))
    return (
        content[:4] == b"glTF"
        and length == len(content)
        and _EXTENSION in content[20 : 20 + text_length]
    )
