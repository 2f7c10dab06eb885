"""Exports the animated mesh as FBX and Alembic with an installed Blender, in its own process.

Blender may exit with 0 although its script raised or wrote nothing: so the files are checked by
their first bytes. blender_script.py runs inside Blender. Called by child/exports.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from meshes.external_tools import Launch, ToolFailed
from meshes.npz import write_npz
from meshes.sequence import MeshSequence
from meshes.texture import SUFFIXES, check_texture

OLDEST = (3, 4)
"""The oldest Blender that this was tested with."""
OUTPUTS = {"animated_mesh.fbx": b"Kaydara FBX Binary  \x00", "animated_mesh.abc": b"Ogawa"}
"""The files that are made, and their first bytes."""
POLL_S = 0.1
"""How often `while_waiting` is called and the limits are checked."""

# --python-exit-code must stand before -P: after it, a script that raises still gives 0
_FLAGS = ("-b", "--factory-startup", "--disable-autoexec", "--python-exit-code", "3")
_SCRIPT = Path(__file__).with_name("blender_script.py")
_NO_ALEMBIC = "BUILT WITHOUT ALEMBIC"
_VERSION_TIMEOUT_S = 60.0
_LARGEST_LOG_BYTES = 16 << 20


def export_with_blender(
    sequence: MeshSequence,
    folder: Path,
    blender: str,
    *,
    launch: Launch = subprocess.Popen,
    timeout_s: float = 180.0,
    while_waiting: Callable[[], None] | None = None,
) -> list[Path]:
    """Write animated_mesh.fbx and animated_mesh.abc into `folder`; gives their paths.

    A Blender that was built without Alembic (Debian's is) makes only the FBX.
    `blender` is the executable's path. `while_waiting` is called about ten times a second; what it
    raises ends Blender and reaches the caller. Raises ToolFailed, and ValueError for a wrong
    texture; then neither file exists. No process is left in any case.
    """
    if sequence.texture:
        check_texture(sequence.texture)
    for name in OUTPUTS:
        (folder / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="blender-") as temporary:
        workdir = Path(temporary)
        run = partial(_run, workdir=workdir, launch=launch, while_waiting=while_waiting)
        _check_version(run([blender, "--version"], timeout_s=min(timeout_s, _VERSION_TIMEOUT_S)))
        inputs = _write_inputs(sequence, workdir)
        arguments = [inputs[0], *OUTPUTS, *inputs[1:]]
        command = [blender, *_FLAGS, "-P", str(_SCRIPT), "--", *arguments]
        output = run(command, timeout_s=timeout_s)
        made = [name for name in OUTPUTS if not (name.endswith(".abc") and _NO_ALEMBIC in output)]
        for name in made:
            _check_output(workdir / name, output)
        return [(workdir / name).replace(folder / name) for name in made]


def _check_version(output: str) -> None:
    found = re.search(r"^Blender (\d+)\.(\d+)", output, re.MULTILINE)
    if found is None:
        raise ToolFailed("the executable does not say that it is Blender", output)
    if (int(found[1]), int(found[2])) < OLDEST:
        raise ToolFailed(f"{found[0]} is too old: {OLDEST[0]}.{OLDEST[1]} is needed")


def _write_inputs(sequence: MeshSequence, workdir: Path) -> list[str]:
    """Write the script's input, arrays and the texture's picture; returns the file names."""
    write_npz(sequence, workdir / "sequence.npz")
    if sequence.texture is None:
        return ["sequence.npz"]
    picture = f"texture{SUFFIXES[sequence.texture.media_type]}"
    (workdir / picture).write_bytes(sequence.texture.image)
    return ["sequence.npz", picture]


def _check_output(path: Path, output: str) -> None:
    beginning = OUTPUTS[path.name]
    if path.is_symlink() or not path.is_file():
        raise ToolFailed(f"Blender did not write {path.name}", output)
    with open(path, "rb") as file:
        if file.read(len(beginning)) != beginning:
            raise ToolFailed(f"Blender's {path.name} has another format", output)


def _run(
    command: list[str],
    *,
    workdir: Path,
    launch: Launch,
    timeout_s: float,
    while_waiting: Callable[[], None] | None,
) -> str:
    """Run the command inside `workdir`; its output. Its process group is killed at the end."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    home = str(workdir)  # no user's settings, add-ons or caches
    environment = {"PATH": path, "LC_ALL": "C.UTF-8", "HOME": home, "TMPDIR": home}
    with tempfile.TemporaryFile(dir=workdir) as log:
        try:
            process = launch(
                command,
                cwd=workdir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except (OSError, subprocess.SubprocessError) as exc:
            raise ToolFailed("Blender could not be started") from exc
        try:
            code = _wait(process, log, timeout_s, while_waiting)
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output = _read(log)
    if code != 0:
        raise ToolFailed(f"Blender failed ({code})", output)
    return output


def _wait(
    process: subprocess.Popen[bytes],
    log: IO[Any],
    timeout_s: float,
    while_waiting: Callable[[], None] | None,
) -> int:
    """The exit status."""
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(POLL_S)
        if while_waiting:
            while_waiting()
        if time.monotonic() > deadline:
            raise ToolFailed(f"Blender did not finish in {timeout_s:g} s", _read(log))
        if os.fstat(log.fileno()).st_size > _LARGEST_LOG_BYTES:
            raise ToolFailed("Blender wrote too much output", _read(log))


def _read(log: IO[Any]) -> str:
    """The log's text. By pread: the process shares our position in the file."""
    return os.pread(log.fileno(), _LARGEST_LOG_BYTES, 0).decode(errors="replace")
