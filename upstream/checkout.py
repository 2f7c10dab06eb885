"""Checks that the ActionMesh checkout is the pinned one, and makes it importable.

Checks actionmesh_repo/ and the TripoSG submodule in it, adds both to sys.path and provides small
replacements for two optional packages that upstream imports (diso, torchvision). Changes nothing
in the checkout. Called once per process by the wrapper, before upstream is imported.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import logging
import os
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import WeightsUnavailable
from upstream.marching_cubes import MarchingCubes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pinned:
    """A package at the commit that this wrapper was written for.

    `tree` is git's own id of the package folder (`git rev-parse <commit>:<package>`). It is
    compared with the files, so that the check works without .git.
    """

    folder: str
    package: str
    commit: str
    tree: str


PINNED = (
    Pinned(
        ".",
        "actionmesh",
        "66db12ea7c4a2ab33a2d2bbd9fffbfd1dfdce2ce",
        "b633a151531056af5894e85725dd87a2f4d71017",
    ),
    Pinned(
        "third_party/TripoSG",
        "triposg",
        "fc5c40990181e2a756c4e0b1c2f4d6b5202faf8c",
        "b7b99f2b5947779045982c14d552d65351906543",
    ),
)

INSTALL_HINT = "Run `make actionmesh` on the server, or set PIPELINE=silhouette."


def open_checkout(repo: Path, any_checkout: bool = False) -> None:
    """Make `import actionmesh` and `import triposg` work. Raises WeightsUnavailable.

    A checkout that differs from the pinned commits is refused, unless `any_checkout`.
    """
    for pinned in PINNED:
        _check(repo, pinned, any_checkout)
    # tqdm and transformers read this at import; engine.py disables the remaining output
    os.environ.setdefault("TQDM_DISABLE", "1")
    for pinned in PINNED:
        path = str((repo / pinned.folder).resolve())
        if path not in sys.path:
            sys.path.append(path)  # last, so that nothing there hides our files
    provide_torchvision()
    provide_diso()


def tree_id(folder: Path) -> str:
    """Git's id of a folder's content, without `__pycache__` and hidden names.

    Object format: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    """
    entries: list[tuple[str, bytes]] = []
    for path in folder.iterdir():
        if path.name == "__pycache__" or path.name.startswith("."):
            continue
        if path.is_dir():
            # git sorts a folder as if its name ended in a slash
            key, mode, object_id = path.name + "/", "40000", tree_id(path)
        else:
            mode = "100755" if path.stat().st_mode & 0o100 else "100644"
            key, object_id = path.name, _object_id("blob", path.read_bytes())
        entries.append((key, f"{mode} {path.name}\0".encode() + bytes.fromhex(object_id)))
    return _object_id("tree", b"".join(entry for _, entry in sorted(entries)))


def provide_torchvision() -> None:
    """Provide torchvision.transforms.functional.normalize, the only part that upstream uses."""
    if _importable("torchvision.transforms.functional"):
        return

    def normalize(picture: Any, mean: list[float], std: list[float]) -> Any:
        """(C, H, W) or (N, C, H, W) minus mean, over std, per channel."""
        centre, spread = (picture.new_tensor(values).view(-1, 1, 1) for values in (mean, std))
        return (picture - centre) / spread

    _register("torchvision")
    _register("torchvision.transforms")
    _register("torchvision.transforms.functional", normalize=normalize)


def provide_diso() -> None:
    """Provide diso.DiffDMC by marching cubes where diso (nvcc, non-commercial) is not installed."""
    # an empty folder of that name can be imported too, as a namespace package
    if not _importable("diso") or not hasattr(sys.modules["diso"], "DiffDMC"):
        log.info("diso is not installed: surfaces come from marching cubes")
        _register("diso", DiffDMC=MarchingCubes)


def _check(repo: Path, pinned: Pinned, any_checkout: bool) -> None:
    folder = repo / pinned.folder / pinned.package
    if not folder.is_dir():
        raise WeightsUnavailable(f"The {pinned.package} code is not installed.", hint=INSTALL_HINT)
    found = tree_id(folder)
    if found == pinned.tree:
        return
    text = f"{pinned.package} is not the checkout of commit {pinned.commit[:12]}"
    if not any_checkout:
        raise WeightsUnavailable(
            f"{text}: its files differ.",
            hint=f"{INSTALL_HINT} ACTIONMESH_ANY_CHECKOUT=1 allows it.",
        )
    log.warning("%s (tree %s); ACTIONMESH_ANY_CHECKOUT allows it", text, found[:12])


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as exc:
        # a package built for another torch fails with RuntimeError or OSError: unload its modules
        root = name.split(".")[0]
        for loaded in [m for m in sys.modules if m == root or m.startswith(root + ".")]:
            del sys.modules[loaded]
        if not isinstance(exc, ImportError):
            log.warning("%s is installed but cannot be imported: %s", root, exc)
        return False
    return True


def _register(name: str, **members: Any) -> None:
    """Make `import name` give a package with these members."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    vars(module).update(members)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def _object_id(kind: str, content: bytes) -> str:
    header = f"{kind} {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()
