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
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from errors import WeightsUnavailable, is_disk_full

log = logging.getLogger(__name__)

_POLL_S = 0.5


@dataclass(frozen=True)
class Download:
    """Files of a repository. `revision` "" means the cached revision, else `main`."""

    name: str
    repo_id: str
    revision: str
    patterns: tuple[str, ...]


def find_on_disk(request: Download) -> Path | None:
    """The cached folder of a revision, which may be incomplete; None if there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                request.repo_id,
                revision=request.revision or None,
                allow_patterns=list(request.patterns),
                local_files_only=True,
            )
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError, OSError):
        return None


def download_all(
    requests: Sequence[Download], on_bytes: Callable[[int, int], None]
) -> dict[str, Path]:
    """Download every request; returns the folders by name. Raises WeightsUnavailable.

    `on_bytes` is called in this thread, twice a second, with bytes on disk and in total. If it
    raises, the download continues in its own thread, and the next call waits for it at the hub's
    file locks.
    """
    plans = [_plan(request) for request in requests]
    total = sum(plan.total for plan in plans)
    folders: dict[str, Path] = {}
    failures: list[Exception] = []

    def work() -> None:
        try:
            for plan in plans:
                folders[plan.request.name] = plan.download()
        except Exception as exc:  # noqa: BLE001 - raised in the caller's thread below
            failures.append(exc)

    thread = threading.Thread(target=work, name="weights", daemon=True)
    thread.start()
    while thread.is_alive():
        on_bytes(min(total, sum(plan.bytes_on_disk() for plan in plans)), total)
        thread.join(_POLL_S)
    if failures:
        raise _unavailable(requests[len(folders)], failures[0])
    on_bytes(total, total)
    return folders


@dataclass(frozen=True)
class _Plan:
    request: Download
    revision: str
    sizes: dict[str, int]
    hashes: dict[str, str]

    @property
    def total(self) -> int:
        return sum(self.sizes.values())

    def bytes_on_disk(self) -> int:
        """Size of this repository's blobs, including unfinished ones; at most `total`."""
        blobs = _cache_of(self.request.repo_id) / "blobs"
        try:
            found = sum(path.stat().st_size for path in blobs.iterdir())
        except OSError:  # no folder yet, or a file was renamed meanwhile
            return 0
        return min(found, self.total)

    def download(self) -> Path:
        from huggingface_hub import snapshot_download

        folder = Path(
            snapshot_download(
                self.request.repo_id,
                # request `main` by name, so that the cache stores its commit
                revision=self.request.revision or "main",
                allow_patterns=list(self.request.patterns),
            )
        )
        for name, expected in self.hashes.items():
            if _sha256(folder / name) != expected:
                path = folder / name
                path.resolve().unlink(missing_ok=True)
                path.unlink(missing_ok=True)
                raise OSError(f"{self.request.repo_id}/{name} does not have its SHA-256")
        log.info("downloaded %s at %s", self.request.repo_id, self.revision)
        return folder


def _plan(request: Download) -> _Plan:
    """Query the files with their sizes and SHA-256 (large files only)."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        found = HfApi().model_info(
            request.repo_id, revision=request.revision or "main", files_metadata=True
        )
    except (HfHubHTTPError, HFValidationError, OSError) as exc:
        raise _unavailable(request, exc) from exc
    except Exception as exc:
        # the hub's client passes on errors of its HTTP library (httpx or requests, by version)
        if type(exc).__module__.split(".")[0] not in ("httpx", "requests", "urllib3"):
            raise
        raise _unavailable(request, exc) from exc
    files = [
        file
        for file in found.siblings or ()
        if any(fnmatch(file.rfilename, pattern) for pattern in request.patterns)
    ]
    hashes = {file.rfilename: file.lfs.sha256 for file in files if file.lfs is not None}
    sizes = {file.rfilename: file.size or 0 for file in files}
    return _Plan(request, str(found.sha), sizes, hashes)


def _unavailable(request: Download, exc: Exception) -> WeightsUnavailable:
    log.warning("cannot download %s: %s: %s", request.repo_id, type(exc).__name__, exc)
    status: Any = getattr(getattr(exc, "response", None), "status_code", None)
    what = f"The weights {request.repo_id} are not on disk and cannot be fetched"
    if status in (401, 403):
        return WeightsUnavailable(
            f"{what}: huggingface.co refused (HTTP {status})",
            hint=f"Accept the licence on https://huggingface.co/{request.repo_id}; set HF_TOKEN.",
        )
    if status == 404:
        return WeightsUnavailable(
            f"{what}: no such repository or revision",
            hint=f"Take a commit id of https://huggingface.co/{request.repo_id}/commits/main",
        )
    if isinstance(exc, OSError) and is_disk_full(exc):
        return WeightsUnavailable(what, hint="The disk of HF_HOME is full; about 15 GB are needed.")
    return WeightsUnavailable(
        what, hint="Let the server reach huggingface.co, or copy a complete HF_HOME to it."
    )


def _cache_of(repo_id: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):
            digest.update(piece)
    return digest.hexdigest()
