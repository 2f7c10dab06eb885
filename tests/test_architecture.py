"""The house's law, read from the source: who imports whom, and what the API process never loads.

A room may import only what stands here. Imports inside functions count; those under TYPE_CHECKING
do not, for they cost nothing when the program runs.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAVES = {"errors", "presets", "settings", "logs"}
CRAFTS = {"video", "meshes", "silhouette", "intake", "upstream"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "presets": set(),
    "settings": set(),
    "logs": set(),
    "client": set(),
    "video": {"video", "errors", "presets"},
    "meshes": {"meshes"},
    "intake": {"intake", "video", "errors", "presets"},
    "silhouette": {"silhouette", "video", "meshes", "errors", "presets"},
    "upstream": {"upstream", "video", "meshes", "errors", "presets", "settings"},
    "actionmesh_wrapper": {"upstream", "video", "meshes", "errors", "presets", "settings"},
    "pipeline": {"silhouette", "actionmesh_wrapper", "errors", "presets"},
    "job": {"job", "executors", "errors"},
    "job_store": {"job", "executors", "errors"},
    # the child knows every format, and no pipeline's inside
    "child": {"child", "executors", "pipeline", "video", "meshes", "errors", "logs"},
    "executors": {"executors", "errors", "logs"},
    "worker": {
        "worker", "job_store", "job", "executors", "intake", "settings", "errors", "logs",
    },
    "api": {"api", "worker", "job_store", "job", "intake", "pipeline", "executors"} | LEAVES,
    "main": {"api", "job_store", "job", "worker", "executors", "pipeline"} | LEAVES,
}  # fmt: skip

HEAVY = {"torch", "cv2", "scipy", "numpy", "embreex", "trimesh", "ray", "executors.ray"}


def _sources() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.glob("*.py")):
        yield path.stem, path
    for package in sorted(CRAFTS | {"api", "child", "executors", "job", "worker"}):
        for path in sorted((ROOT / package).glob("*.py")):
            yield package, path


def _imports(path: Path) -> Iterator[str]:
    """Top-level names imported anywhere in the file, except under `if TYPE_CHECKING`."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports name the room, not a dot"
            yield node.module.split(".")[0]
        waiting.extend(ast.iter_child_nodes(node))


def test_every_room_imports_only_what_lies_below_it() -> None:
    ours = set(ALLOWED)
    for room, path in _sources():
        assert room in ALLOWED, f"{path.name}: a new root file needs a place in the table"
        wrong = {name for name in _imports(path) if name in ours} - ALLOWED[room]
        assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_every_file_says_in_its_first_lines_what_it_is() -> None:
    for _, path in _sources():
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.name} has no docstring"


def test_the_child_is_started_by_path_and_never_imported() -> None:
    for package, path in _sources():
        assert package == "child" or "child" not in set(_imports(path)), path


def test_the_api_process_loads_nothing_heavy() -> None:
    if not (ROOT / "main.py").exists():  # the door is built last
        return
    code = "import main, sys; main.app; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not HEAVY & set(loaded)
