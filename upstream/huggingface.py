"""Downloads repositories from huggingface.co into its cache, with progress in bytes.

A thin layer over huggingface_hub: cached files need no network, downloads resume, and large files
are checked by SHA-256. weights.py, the caller, decides which files are needed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from upstream.download_errors import WrongBytes, causes, is_full_disk, no_space, unavailable
from upstream.sources import Source

log = logging.getLogger(__name__)

_POLL_S = 0.5


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
    missing = total - sum(plan.bytes_on_disk() for plan in plans)
    if missing > (free := _free_bytes()):
        raise no_space(missing, free)
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
        if is_full_disk(failures[0]):
            missing = total - sum(plan.bytes_on_disk() for plan in plans)
            raise no_space(missing, _free_bytes()) from failures[0]
        raise unavailable(sources[len(folders)], failures[0]) from failures[0]
    on_bytes(total, total)
    return folders


def remove_cached(path: Path) -> None:
    """Remove a file of the cache and the blob that it links to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _File:
    """`blob`: its name in the cache, which is its ETag. `sha256`: "" for small files."""

    name: str
    size: int
    blob: str
    sha256: str


@dataclass(frozen=True)
class _Plan:
    source: Source
    files: tuple[_File, ...]

    @property
    def total_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def _folder(self) -> Path:
        return _cache() / self.source.cache_folder

    def bytes_on_disk(self) -> int:
        """Of these files, including unfinished ones; at most `total_bytes`."""
        named, blobs = self._folder / "snapshots" / self.source.revision, self._folder / "blobs"
        return sum(
            min(file.size, _bytes_of(named / file.name, blobs / file.blob)) for file in self.files
        )

    def download(self) -> Path:
        """Continues while each try brings bytes: an old hub library gives up at the first cut."""
        while True:
            before = self.bytes_on_disk()
            try:
                folder = _snapshot(self.source)
                break
            except Exception as exc:
                if _without_xet(exc):
                    self._remove_unfinished()
                elif not _is_cut_off(exc) or self.bytes_on_disk() <= before:
                    raise
                log.warning("the download of %s continues after %r", self.source.repo_id, exc)
        for file in self.files:
            if file.sha256 and _sha256(folder / file.name) != file.sha256:
                remove_cached(folder / file.name)
                raise WrongBytes(file.name)
        log.info("downloaded %s at %s", self.source.repo_id, folder.name)
        return folder

    def _remove_unfinished(self) -> None:
        """Xet leaves gaps in a file, which HTTP would continue at its end."""
        for file in self.files:
            for path in _unfinished(self._folder / "blobs" / file.blob):
                path.unlink(missing_ok=True)


def _plan(source: Source) -> _Plan:
    """Query the files with their sizes and SHA-256 (large files only). Raises WeightsUnavailable.

    If the hub no longer has the revision, the newest one is taken, if the source allows that.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RevisionNotFoundError
    from huggingface_hub.utils import filter_repo_objects

    try:
        found = HfApi().model_info(
            source.repo_id,
            revision=source.revision or "main",
            files_metadata=True,
            timeout=constants.HF_HUB_ETAG_TIMEOUT,
        )
    except RevisionNotFoundError as exc:
        if not source.newest_allowed:
            raise unavailable(source, exc) from exc
        newest = _plan(replace(source, revision="", newest_allowed=False))
        log.warning(
            "%s has no revision %s any more: its newest one is used. Set %s=%s to keep it, "
            "which also lets the server start without network",
            source.page, source.revision, source.setting, newest.source.revision,
        )  # fmt: skip
        return newest
    # the hub's errors and those of requests are OSErrors; a malformed reply is a ValueError
    except (OSError, ValueError, httpx.HTTPError, httpx.InvalidURL) as exc:
        raise unavailable(source, exc) from exc
    by_name = {file.rfilename: file for file in found.siblings or ()}
    wanted = filter_repo_objects(by_name, allow_patterns=list(source.patterns))
    at_commit = replace(source, revision=str(found.sha))
    return _Plan(at_commit, tuple(_file(by_name[name]) for name in wanted))


def _file(sibling: Any) -> _File:
    sha256 = sibling.lfs.sha256 if sibling.lfs is not None else ""
    return _File(sibling.rfilename, sibling.size or 0, sha256 or sibling.blob_id or "", sha256)


def _snapshot(source: Source, local_files_only: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    folder = snapshot_download(
        source.repo_id,
        revision=source.revision or "main",
        allow_patterns=list(source.patterns),
        local_files_only=local_files_only,
    )
    return Path(folder)


def _without_xet(exc: Exception) -> bool:
    """True, once, if the hub's own storage protocol failed: from then on plain HTTP is used.

    Its tokens are cached, and an expired one is refused with 401.
    """
    from huggingface_hub import constants

    failed = any(
        isinstance(cause, RuntimeError)  # hf_xet's only error
        or "xet-read-token" in str(getattr(getattr(cause, "response", None), "url", ""))
        for cause in causes(exc)
    )
    if constants.HF_HUB_DISABLE_XET or not failed or is_full_disk(exc):
        return False
    constants.HF_HUB_DISABLE_XET = True  # the variable of this name is read at import only
    return True


def _is_cut_off(exc: Exception) -> bool:
    """True if the connection failed, and not the request or the disk."""
    return not is_full_disk(exc) and not any(
        getattr(cause, "response", None) is not None for cause in causes(exc)
    )


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _free_bytes() -> int:
    """On the disk of the cache, whose folder need not exist yet."""
    folder = _cache().absolute()
    while not os.path.exists(folder):  # Path.exists fails where this user may not look
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _bytes_of(file: Path, blob: Path) -> int:
    """Size of a cached file, or what is written of it.

    `file` links to `blob`; on a disk without links it is the file itself. Xet writes the parts in
    any order, so that the length of an unfinished file says little and its blocks count.
    """
    for path in (file, blob):
        with suppress(OSError):
            return path.stat().st_size
    written = [0]
    for path in _unfinished(blob):
        with suppress(OSError):  # renamed meanwhile
            found = path.stat()
            written.append(min(found.st_size, found.st_blocks * 512))
    return max(written)


def _unfinished(blob: Path) -> list[Path]:
    """What is written of a blob: `blob.incomplete`, or `blob.<random>.incomplete`."""
    with suppress(OSError):  # a folder of another user
        return list(blob.parent.glob(f"{blob.name}*.incomplete"))
    return []


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 24):
            digest.update(piece)
    return digest.hexdigest()
