"""The import rules of docs/architecture.md, read from the source.

A package may import only what its row names, and itself. Imports inside functions and under
TYPE_CHECKING count too. No two modules import each other, directly or indirectly.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ALLOWED: dict[str, str] = {
    # from top to bottom: each row names only rows below it
    "main": "api worker job_store executors job gpus pipeline errors settings",
    "api": "worker job_store executors job intake pipeline gpu_memory video meshes errors settings",
    "worker": "job_store executors job intake errors settings",
    "job_store": "job errors",
    "executors": "job pipeline errors",
    "child": "gpus pipeline actionmesh_wrapper silhouette subject appearance job video meshes "
    "errors",
    "actionmesh_wrapper": "pipeline gpu_memory upstream subject intake video meshes errors "
    "settings",
    "upstream": "pipeline gpu_memory subject appearance intake video meshes errors settings",
    "silhouette": "pipeline video meshes errors",
    "subject": "pipeline video errors settings",
    "appearance": "video meshes",
    "job": "intake pipeline video errors",
    "gpus": "pipeline",
    "pipeline": "gpu_memory video meshes",
    "intake": "video meshes errors",
    "video": "errors",
    "meshes": "",
    "gpu_memory": "",
    "client": "",
    "errors": "",
    "settings": "",
}
ONLY_IN_CHILD_PIPELINES = {"actionmesh_wrapper", "silhouette"}
HEAVY = {"torch", "cv2", "scipy", "numpy", "embreex", "trimesh", "ray", "executors.ray"}


def _sources() -> Iterator[tuple[str, Path]]:
    """Every module of the server, with the package (or the top-level file) that it belongs to."""
    for name in ALLOWED:
        file = ROOT / f"{name}.py"
        for path in [file] if file.is_file() else sorted((ROOT / name).glob("*.py")):
            yield name, path


def _imports(path: Path) -> Iterator[str]:
    """Dotted names of the modules that are imported anywhere in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: imports are absolute"
            for alias in node.names:
                inner = ROOT / node.module.replace(".", "/") / f"{alias.name}.py"
                yield f"{node.module}.{alias.name}" if inner.is_file() else node.module


def _package(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("name", ALLOWED)
def test_each_package_imports_only_what_its_row_names(name: str) -> None:
    allowed = {name, *ALLOWED[name].split()}
    for package, path in _sources():
        if package == name:
            wrong = {_package(module) for module in _imports(path)} & set(ALLOWED) - allowed
            assert not wrong, f"{path.relative_to(ROOT)} imports {sorted(wrong)}"


def test_each_row_names_only_rows_below_it() -> None:
    rows = list(ALLOWED)
    for at, name in enumerate(rows):
        assert set(ALLOWED[name].split()) <= set(rows[at + 1 :]), name


def test_no_modules_import_each_other() -> None:
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): {
            module for module in _imports(path) if _package(module) in ALLOWED
        }
        for _, path in _sources()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as exc:
        pytest.fail(f"a circle of imports: {' -> '.join(exc.args[1])}")


def test_the_top_level_holds_at_most_nine_python_files_and_all_are_in_the_table() -> None:
    found = {path.stem for path in ROOT.glob("*.py")}
    assert len(found) <= 9 and found <= set(ALLOWED)


def test_nothing_uses_the_folder_through_the_store() -> None:
    """Code that needs JOBS_DIR gets the JobsFolder."""
    for _, path in _sources():
        assert "store.folder" not in path.read_text(), path


def test_only_child_pipelines_names_a_concrete_pipeline() -> None:
    for package, path in _sources():
        if package not in ONLY_IN_CHILD_PIPELINES and path != ROOT / "child" / "pipelines.py":
            named = {_package(module) for module in _imports(path)} & ONLY_IN_CHILD_PIPELINES
            assert not named, path


def test_every_file_says_in_its_first_lines_what_it_is() -> None:
    for _, path in _sources():
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.name} has no docstring"


def test_the_api_process_loads_nothing_heavy() -> None:
    code = "import main, sys; main.app; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert not HEAVY & set(loaded)
