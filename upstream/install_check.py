"""Checks what `make actionmesh` needs before it downloads anything. `python -m` runs it.

Prints one line for each thing that is missing, and exits with 1 if it would fail. Standard library
only: no package is installed yet. Installs and changes nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from upstream.cuda_driver import (
    TORCH_CUDA,
    Driver,
    NoDriver,
    find_driver,
    installed_torch_cuda,
    problem,
)
from upstream.sources import SOURCES, TOTAL_GB

ROOT = Path(__file__).resolve().parent.parent

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)
"""The pinned numpy has wheels for these."""
PACKAGES_GB = 6.0
DOWNLOADS_GB = 3.0
"""What pip unpacks, and what it downloads for that: to TMPDIR meanwhile, and into its own cache."""


@dataclass(frozen=True)
class Finding:
    """One line for the user. With `fatal`, `make actionmesh` would fail."""

    text: str
    fatal: bool = True


@dataclass(frozen=True)
class Need:
    """Space that one folder needs, which may not exist yet. `variable` chooses the folder."""

    what: str
    variable: str
    folder: Path
    gb: float


def main() -> int:
    """1 if something is missing without which the installation fails."""
    findings = [
        *check_python(sys.version_info[:2], platform.machine()),
        *check_git(ROOT),
        *check_driver(find_driver(), installed_torch_cuda(), os.environ),
        *check_disk(needs(os.environ)),
    ]
    for finding in findings:
        sys.stderr.write(f"{'ERROR' if finding.fatal else 'WARNING'}: {finding.text}\n")
    return int(any(finding.fatal for finding in findings))


def check_python(version: tuple[int, int], machine: str) -> Iterator[Finding]:
    """The packages exist for some versions and processors."""
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        yield Finding(
            f"Python is {_dotted(version)}, and the packages need {_dotted(OLDEST_PYTHON)} to "
            f"{_dotted(NEWEST_PYTHON)}: `rm -r .venv`, then `make actionmesh PYTHON=python3.12`"
        )
    if machine != "x86_64":  # embreex has no wheel for another one
        yield Finding(f"the packages exist for the processor x86_64, and this one is {machine}")


def check_git(root: Path) -> Iterator[Finding]:
    """Upstream's code is a submodule."""
    if shutil.which("git") is None:
        yield Finding("git is missing; on Debian and Ubuntu: apt install git")
        return
    asked = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--show-toplevel"],
        capture_output=True, text=True,
    )  # fmt: skip
    if asked.returncode:
        reason = asked.stderr.strip().partition("\n")[0]
        yield Finding(f"git cannot use {root} ({reason}): it must be a git clone of your own")
    elif Path(asked.stdout.strip()).resolve() != root.resolve():
        yield Finding(f"{root} is no git clone, but lies in one: clone the project with git")


def check_driver(
    driver: Driver | NoDriver, torch_cuda: str | None, environ: Mapping[str, str]
) -> Iterator[Finding]:
    """Without a GPU the installation works, and an image can be made."""
    found = problem(driver, TORCH_CUDA if torch_cuda is None else torch_cuda, environ)
    if found is not None:
        yield Finding(f"{found.text}. {found.hint}", fatal=found.by_torch)


def needs(environ: Mapping[str, str]) -> list[Need]:
    """What must still be written, and where."""
    cache = hub_cache(environ)
    there_gb = sum(
        min(source.size_gb, _written_gb(cache / source.cache_folder)) for source in SOURCES
    )
    weights = Need("weights", "HF_HOME", cache, TOTAL_GB - there_gb)
    if installed_torch_cuda() is not None:
        return [weights]
    return [
        weights,
        Need("packages", "", Path(sys.prefix), PACKAGES_GB),
        Need("pip's downloads", "TMPDIR", Path(tempfile.gettempdir()), DOWNLOADS_GB),
        Need("pip's cache", "PIP_CACHE_DIR", pip_cache(environ), DOWNLOADS_GB),
    ]


def hub_cache(environ: Mapping[str, str]) -> Path:
    """The folder of huggingface_hub's cache, which has its own variable within HF_HOME."""
    home = environ.get("HF_HOME", "").strip() or f"{_user_cache(environ)}/huggingface"
    old_name = environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(environ.get("HF_HUB_CACHE") or old_name or f"{home}/hub").expanduser().absolute()


def pip_cache(environ: Mapping[str, str]) -> Path:
    """The folder where pip keeps its downloads."""
    cache = environ.get("PIP_CACHE_DIR") or f"{_user_cache(environ)}/pip"
    return Path(cache).expanduser().absolute()


def check_disk(wanted: list[Need]) -> Iterator[Finding]:
    """Folders on the same disk share its free space."""
    by_disk: dict[int, list[Need]] = {}
    for need in wanted:
        by_disk.setdefault(_existing(need.folder).stat().st_dev, []).append(need)
    for on_disk in by_disk.values():
        free_gb = shutil.disk_usage(_existing(on_disk[0].folder)).free / 1e9
        needed_gb = sum(need.gb for need in on_disk)
        if free_gb < needed_gb:
            parts = ", ".join(
                f"{need.gb:.1f} GB for {need.what} in {need.folder}" for need in on_disk
            )
            variables = " or ".join(need.variable for need in on_disk if need.variable)
            other = f", or set {variables} to a folder on another disk" if variables else ""
            yield Finding(
                f"the disk has {free_gb:.1f} GB free, and {needed_gb:.1f} GB are needed: {parts}. "
                f"Free space{other}"
            )


def _user_cache(environ: Mapping[str, str]) -> str:
    return environ.get("XDG_CACHE_HOME") or "~/.cache"


def _written_gb(folder: Path) -> float:
    """Of all files below it, in blocks: an unfinished download may be a long file with gaps."""
    written = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # renamed meanwhile
                written += os.lstat(os.path.join(top, name)).st_blocks * 512
    return written / 1e9


def _existing(folder: Path) -> Path:
    while not os.path.exists(folder):  # Path.exists fails where this user may not look
        folder = folder.parent
    return folder


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


if __name__ == "__main__":
    sys.exit(main())
