"""Downloads repositories from huggingface.co into its cache, with progress in bytes.

A thin layer over huggingface_hub: cached files need no network, downloads resume, and large files
are checked by SHA-256. weights.py, the caller, decides which files are needed.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from errors import WeightsUnavailable, is_disk_full

log = logging.getLogger(__name__)

_POLL_S = 0.5


@dataclass(frozen=True)
class Source:
    """One repository on huggingface.co, and what is needed of it.

    Each of `folders` must contain a weights file. `runs_code`: transformers executes Python files
    of it. `revision` "" means the cached revision, else `main`.
    """

    name: str
    repo_id: str
    patterns: tuple[str, ...]
    folders: tuple[str, ...] = (".",)
    runs_code: bool = False
    revision: str = ""

    @property
    def setting(self) -> str:
        """The environment variable with the revision."""
        return f"{self.name.upper()}_REVISION"

    @property
    def commits_page(self) -> str:
        return f"https://huggingface.co/{self.repo_id}/commits/main"


def find_on_disk(source: Source) -> Path | None:
    """The cached folder of a revision, which may be incomplete; None if there is none."""
    try:
        return _snapshot(source, local_files_only=True)
    except (OSError, ValueError):  # each of the hub's errors is one of these
        return None


def download_all(
    sources: Sequence[Source], on_bytes: Callable[[int, int], None]
) -> dict[str, Path]:
    """Download every source; returns the folders by name. Raises WeightsUnavailable.

    `on_bytes` is called in this thread, twice a second, with bytes on disk and in total. If it
    raises, the download continues in its own thread, and the next call waits for it at the hub's
    file locks.
    """
    plans = [_plan(source) for source in sources]
    total = sum(plan.total_bytes for plan in plans)
    folders: dict[str, Path] = {}
    failures: list[Exception] = []

    def work() -> None:
        try:
            for plan in plans:
                folders[plan.source.name] = plan.download()
        except Exception as exc:  # noqa: BLE001 - raised in the caller's thread below
            failures.append(exc)

    thread = threading.Thread(target=work, name="weights", daemon=True)
    thread.start()
    while thread.is_alive():
        on_bytes(sum(plan.bytes_on_disk() for plan in plans), total)
        thread.join(_POLL_S)
    if failures:
        raise _unavailable(sources[len(folders)], failures[0])
    on_bytes(total, total)
    return folders


def remove_cached(path: Path) -> None:
    """Remove a file of the cache and the blob that it links to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Plan:
    source: Source
    revision: str
    total_bytes: int
    hashes: dict[str, str]

    def bytes_on_disk(self) -> int:
        """Size of this repository's blobs, including unfinished ones; at most `total_bytes`."""
        from huggingface_hub import constants

        name = f"models--{self.source.repo_id.replace('/', '--')}"
        blobs = Path(constants.HF_HUB_CACHE) / name / "blobs"
        try:
            found = sum(path.stat().st_size for path in blobs.iterdir())
        except OSError:  # no folder yet, or a file was renamed meanwhile
            return 0
        return min(found, self.total_bytes)

    def download(self) -> Path:
        folder = _snapshot(self.source)
        for name, expected in self.hashes.items():
            if _sha256(folder / name) != expected:
                remove_cached(folder / name)
                raise OSError(f"{self.source.repo_id}/{name} does not have its SHA-256")
        log.info("downloaded %s at %s", self.source.repo_id, self.revision)
        return folder


def _plan(source: Source) -> _Plan:
    """Query the files with their sizes and SHA-256 (large files only)."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import filter_repo_objects

    try:
        found = HfApi().model_info(
            source.repo_id, revision=source.revision or "main", files_metadata=True
        )
    # HfHubHTTPError is an OSError, as are the errors of requests, which older hubs pass on
    except (OSError, HFValidationError, httpx.HTTPError, httpx.InvalidURL) as exc:
        raise _unavailable(source, exc) from exc
    by_name = {file.rfilename: file for file in found.siblings or ()}
    wanted = filter_repo_objects(by_name, allow_patterns=list(source.patterns))
    files = [by_name[name] for name in wanted]
    hashes = {file.rfilename: file.lfs.sha256 for file in files if file.lfs is not None}
    return _Plan(source, str(found.sha), sum(file.size or 0 for file in files), hashes)


def _snapshot(source: Source, local_files_only: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        source.repo_id,
        revision=source.revision or "main",
        allow_patterns=list(source.patterns),
        local_files_only=local_files_only,
    )
    return Path(folder)


def _unavailable(source: Source, exc: Exception) -> WeightsUnavailable:
    log.warning("cannot download %s: %s: %s", source.repo_id, type(exc).__name__, exc)
    status: Any = getattr(getattr(exc, "response", None), "status_code", None)
    what = f"The weights {source.repo_id} are not on disk and cannot be fetched"
    hint = "Let the server reach huggingface.co, or copy a complete HF_HOME to it."
    if status in (401, 403):
        what = f"{what}: huggingface.co refused (HTTP {status})"
        hint = f"Accept the licence on https://huggingface.co/{source.repo_id}; set HF_TOKEN."
    elif status == 404:
        what = f"{what}: no such repository or revision"
        hint = f"Take a commit id of {source.commits_page}"
    elif isinstance(exc, OSError) and is_disk_full(exc):
        hint = "The disk of HF_HOME is full; about 15 GB are needed."
    return WeightsUnavailable(what, hint=hint)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):
            digest.update(piece)
    return digest.hexdigest()
