"""Exports the animated mesh as FBX and Alembic with Blender, in its own process.

Blender is a program, or a Python that has the package bpy. Either may exit with 0 although its
script raised or wrote nothing: so the files are checked by their first bytes. blender_script.py
runs inside Blender. Called by child/exports.py.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import numpy as np

from meshes.external_tools import Launch, ToolFailed, run_tool
from meshes.npz import write_npz
from meshes.sequence import MeshSequence, Texture
from meshes.skin import Skin, check_skin
from meshes.texture import SUFFIXES, check_texture

OLDEST = (3, 4)
"""The oldest Blender that this was tested with."""
FBX, ALEMBIC, SKINNED_FBX = "animated_mesh.fbx", "animated_mesh.abc", "skinned_mesh.fbx"
_IS_FBX = b"Kaydara FBX Binary  \x00"
OUTPUTS = {FBX: _IS_FBX, ALEMBIC: b"Ogawa", SKINNED_FBX: _IS_FBX}
"""The files that can be made, and their first bytes."""

# --python-exit-code must stand before -P: after it, a script that raises still gives 0
_FLAGS = ("-b", "--factory-startup", "--disable-autoexec", "--python-exit-code", "3", "-P")
_PYTHON_FLAGS = ("-I",)
"""No PYTHON* variables, and no packages of the user's."""
_ASK_BPY = "import bpy; print('Blender', bpy.app.version_string)"
_SCRIPT = Path(__file__).with_name("blender_script.py")
_NO_ALEMBIC = "BUILT WITHOUT ALEMBIC"
_VERSION_TIMEOUT_S = 60.0


def export_with_blender(
    sequence: MeshSequence,
    folder: Path,
    blender: str,
    names: Collection[str] = (FBX, ALEMBIC),
    *,
    skin: Skin | None = None,
    launch: Launch = subprocess.Popen,
    timeout_s: float = 180.0,
    while_waiting: Callable[[], None] | None = None,
) -> list[Path]:
    """Write the files of OUTPUTS with these names into `folder`; gives the paths of all it wrote.

    Alembic holds no picture: the texture is written beside it, as `alembic_texture` names it. A
    Blender that was built without Alembic (Debian's is) makes all other files. SKINNED_FBX needs
    the `skin`.

    `blender` is the path of Blender or of a Python that has bpy. `while_waiting` is called about
    ten times a second; what it raises ends Blender and reaches the caller. Raises ToolFailed, and
    ValueError for a wrong texture or skin; then no file exists. No process is left in any case.
    """
    if sequence.texture:
        check_texture(sequence.texture)
    if SKINNED_FBX in names and skin is None:
        raise ValueError(f"{SKINNED_FBX} needs a skin")
    if skin is not None:
        check_skin(sequence, skin)
    for name in names:
        (folder / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="blender-") as temporary:
        workdir = Path(temporary)
        run = partial(
            run_tool, "Blender", workdir=workdir, launch=launch, while_waiting=while_waiting
        )
        command = _find_blender(blender, partial(run, timeout_s=min(timeout_s, _VERSION_TIMEOUT_S)))
        arguments = _write_inputs(sequence, skin, names, workdir)
        output = run([*command, str(_SCRIPT), "--", *arguments], timeout_s=timeout_s)
        made = [name for name in names if not (name == ALEMBIC and _NO_ALEMBIC in output)]
        for name in made:
            _check_output(workdir / name, output)
        if ALEMBIC in made and sequence.texture:
            made.append(alembic_texture(sequence.texture))
            (workdir / made[-1]).write_bytes(sequence.texture.image)
        return [(workdir / name).replace(folder / name) for name in made]


def alembic_texture(texture: Texture) -> str:
    """The name of the texture's file beside the Alembic file."""
    return f"animated_mesh_texture{SUFFIXES[texture.media_type]}"


def _find_blender(program: str, run: Callable[..., str]) -> list[str]:
    """The command that runs a script, without the script. Raises ToolFailed."""
    output = run([program, "--version"])
    if re.match(r"Python \d", output) is None:
        _check_version(output, "the executable does not say that it is Blender")
        return [program, *_FLAGS]
    command = [program, *_PYTHON_FLAGS]
    output = run([*command, "-c", _ASK_BPY], failure="this Python cannot import bpy")
    _check_version(output, "the Python's bpy does not say its version")
    return command


def _check_version(output: str, failure: str) -> None:
    found = re.search(r"^Blender (\d+)\.(\d+)", output, re.MULTILINE)
    if found is None:
        raise ToolFailed(failure, output)
    if (int(found[1]), int(found[2])) < OLDEST:
        raise ToolFailed(f"{found[0]} is too old: {OLDEST[0]}.{OLDEST[1]} is needed")


def _write_inputs(
    sequence: MeshSequence, skin: Skin | None, names: Collection[str], workdir: Path
) -> list[str]:
    """Write what the script reads; returns its arguments."""
    write_npz(sequence, workdir / "sequence.npz")
    arguments = ["sequence.npz"]
    if sequence.texture:
        picture = f"texture{SUFFIXES[sequence.texture.media_type]}"
        (workdir / picture).write_bytes(sequence.texture.image)
        arguments += ["--picture", picture]
    if skin is not None and SKINNED_FBX in names:
        positions, rotations = skin.local_motion()
        np.savez(
            workdir / "skin.npz",
            joints=skin.joints,
            weights=skin.weights,
            parents=np.array(skin.parents),
            pivots=skin.pivots,
            positions=positions,
            rotations=rotations,
        )
        arguments += ["--skin", "skin.npz"]
    for option, name in (("--fbx", FBX), ("--abc", ALEMBIC), ("--skinned-fbx", SKINNED_FBX)):
        arguments += [option, name] if name in names else []
    return arguments


def _check_output(path: Path, output: str) -> None:
    beginning = OUTPUTS[path.name]
    if path.is_symlink() or not path.is_file():
        raise ToolFailed(f"Blender did not write {path.name}", output)
    with open(path, "rb") as file:
        if file.read(len(beginning)) != beginning:
            raise ToolFailed(f"Blender's {path.name} has another format", output)
