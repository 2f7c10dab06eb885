"""Any checkout but the pinned one is refused; without it the rest of the worker works."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from errors import WeightsUnavailable
from pipeline import Gpu, choose_pipeline
from upstream.checkout import PINNED, open_checkout, tree_id

ROOT = Path(__file__).resolve().parents[2]


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
def test_tree_ids_are_gits_own(tmp_path: Path) -> None:
    (tmp_path / "package" / "inner").mkdir(parents=True)
    (tmp_path / "package" / "inner.py").write_text("x = 1\n")
    (tmp_path / "package" / "inner" / "run.py").write_text("y = 2\n")
    (tmp_path / "package" / "inner" / "run.py").chmod(0o755)
    (tmp_path / "package" / "__pycache__").mkdir()
    (tmp_path / "package" / "__pycache__" / "inner.pyc").write_bytes(b"-")
    for command in ("init -q", "add package/inner.py package/inner/run.py"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    written = subprocess.run(
        ["git", "write-tree", "--prefix=package/"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert tree_id(tmp_path / "package") == written.stdout.strip()


def test_the_submodule_has_an_address_that_needs_no_key() -> None:
    modules = (ROOT / ".gitmodules").read_text()
    assert "url = https://github.com/facebookresearch/actionmesh.git" in modules


@needs_git
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout but an archive")
def test_the_submodule_entry_is_the_pinned_commit() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-s", "actionmesh_repo"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert listed.stdout.split()[:2] == ["160000", PINNED[0].commit]


def test_the_real_checkout_is_the_pinned_one(checkout: Path) -> None:
    for pinned in PINNED:
        assert tree_id(checkout / pinned.folder / pinned.package) == pinned.tree


@pytest.mark.parametrize("empty", [True, False])
def test_an_empty_or_other_checkout_is_refused_with_a_hint(tmp_path: Path, empty: bool) -> None:
    if not empty:
        (tmp_path / "actionmesh").mkdir()
        (tmp_path / "actionmesh" / "pipeline.py").write_text("raise SystemExit\n")
    with pytest.raises(WeightsUnavailable) as caught:
        open_checkout(tmp_path)
    assert "make actionmesh" in caught.value.hint
    assert ("ACTIONMESH_ANY_CHECKOUT" in caught.value.hint) is not empty


def test_one_changed_line_is_refused_unless_allowed(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pinned in PINNED:
        folder = tmp_path / pinned.folder / pinned.package
        shutil.copytree(checkout / pinned.folder / pinned.package, folder)
    with open(tmp_path / "actionmesh" / "utils.py", "a") as file:
        file.write("# changed\n")
    with pytest.raises(WeightsUnavailable, match="66db12ea7c4a"):
        open_checkout(tmp_path)
    allowed = (
        "import sys; from pathlib import Path; from upstream.checkout import open_checkout;"
        "open_checkout(Path(sys.argv[1]), any_checkout=True)"
    )
    subprocess.run([sys.executable, "-c", allowed, str(tmp_path)], cwd=ROOT, check=True)


def test_an_empty_folder_called_diso_is_not_diso(tmp_path: Path) -> None:
    (tmp_path / "diso").mkdir()
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from upstream.checkout import provide_diso\n"
        "provide_diso()\n"
        "from diso import DiffDMC; print(DiffDMC.__module__)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == "upstream.marching_cubes"


def test_the_reason_names_a_missing_checkout_or_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.CHECKOUT", tmp_path)
    choice = choose_pipeline("auto", Gpu("NVIDIA H100", 80.0))
    assert choice.name == "silhouette"
    assert "make actionmesh" in choice.reason


def test_importing_the_wrapper_loads_no_torch() -> None:
    heavy = "{'torch', 'PIL', 'diffusers', 'huggingface_hub'}"
    code = f"import actionmesh_wrapper, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
