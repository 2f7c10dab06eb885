"""JOBS_DIR on disk: its layout, whether it is still there, and every path with a job id in it.

job_store.py and worker/ decide what is kept; the executors write the files of a job. Nothing here
follows a symbolic link.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from errors import StorageUnavailable, is_disk_full
from job import durable, failpoint
from job.folder_lock import AlreadyLocked, FolderLock
from job.task import Result

log = logging.getLogger(__name__)

_JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

SEQUENCE_BLOCK = 1000
"""Sequence numbers are reserved on disk in blocks, so that a 202 costs no extra fsync."""


class JobsFolderError(Exception):
    """JOBS_DIR cannot be used; the message is one line for the operator."""


class JobsFolder:
    """The folder of one server. Knows paths and renames, not what a job means."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.staging = root / ".staging"
        self._trash = root / ".trash"
        self._quarantine = root / ".quarantine"
        self._expired = root / ".expired"
        self._webhooks = root / ".webhooks"
        self._parts = (
            self.staging, self._trash, self._quarantine, self._expired, self._webhooks
        )  # fmt: skip
        self._in_use: set[str] = set()  # the names in .staging of uploads that are received now
        self._lock = FolderLock(root)
        self._sequence = 0
        self._reserved = 0

    # --- opening and closing

    def open(self) -> None:
        """Create, check and lock the folder; empty .staging. Raises JobsFolderError."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take()
            self.empty_staging()
        except OSError as exc:
            self.close()
            raise JobsFolderError(f"JOBS_DIR {self.root} cannot be used: {exc.strerror}") from exc

    def reopen(self) -> None:
        """Lock and complete the folder that is at JOBS_DIR now; the caller holds the store's lock.

        It is not created: perhaps it is being moved. Raises JobsFolderError; the old lock is then
        kept.
        """
        try:
            self._take()
        except OSError as exc:
            raise JobsFolderError(f"JOBS_DIR {self.root} cannot be used: {exc.strerror}") from exc

    def _take(self) -> None:
        self._check_owner()
        self._take_lock()
        for folder in self._parts:
            folder.mkdir(mode=0o700, exist_ok=True)
        self._read_sequence()

    def close(self) -> None:
        """Release the lock. Idempotent."""
        self._lock.close()

    def _check_owner(self) -> None:
        found = os.lstat(self.root)
        parent_is_shared = bool(os.stat(self.root.parent).st_mode & stat.S_IWOTH)
        if parent_is_shared and (found.st_uid != os.geteuid() or stat.S_ISLNK(found.st_mode)):
            raise JobsFolderError(
                f"JOBS_DIR {self.root} belongs to another user, in a folder that anyone may write; "
                "set JOBS_DIR to a folder of your own"
            )
        if found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode):
            os.chmod(self.root, 0o700)

    def _take_lock(self) -> None:
        try:
            self._lock.take()
        except AlreadyLocked as exc:
            raise JobsFolderError(
                f"JOBS_DIR {self.root} is in use by another server (pid {exc.holder}); "
                "run one server, with one worker, per JOBS_DIR"
            ) from None

    # --- is it still there?

    def is_present(self) -> bool:
        """True if JOBS_DIR is the folder that this server has locked. Raises OSError."""
        return self._lock.is_held()

    def require_present(self) -> None:
        """Raise OSError if JOBS_DIR is gone: then a missing file says nothing about a job."""
        if not self.is_present():
            raise FileNotFoundError(errno.ENOENT, "JOBS_DIR is missing")

    def is_complete(self) -> bool:
        """True if it is present and no part was removed; else `reopen` may help."""
        return self.is_present() and all(part.is_dir() for part in self._parts)

    def check(self) -> None:
        """Raise StorageUnavailable unless jobs can be stored; a full disk is no reason."""
        try:
            if not self.is_complete():
                raise StorageUnavailable("JOBS_DIR was removed or replaced.")
            self._lock.rewrite()
        except OSError as exc:
            if not is_disk_full(exc):
                raise StorageUnavailable("JOBS_DIR cannot be written.") from exc
        if not all(os.access(path, os.W_OK | os.X_OK) for path in (self.root, *self._parts)):
            raise StorageUnavailable("JOBS_DIR cannot be written.")

    def is_usable(self) -> bool:
        """False if `check` raises."""
        try:
            self.check()
        except StorageUnavailable:
            return False
        return True

    # --- sequence numbers

    def _read_sequence(self) -> None:
        try:
            found = int((self.root / ".sequence").read_text())
        except (FileNotFoundError, ValueError):
            found = self._highest_sequence()
        self._sequence = self._reserved = max(found, self._sequence)

    def _highest_sequence(self) -> int:
        highest = 0
        for job_id in self.job_ids():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = json.loads(self.read_record(job_id) or b"{}")
                highest = max(highest, int(record["sequence"]))
        return highest

    def next_sequence(self) -> int:
        """A number above all earlier ones, even after a restart. The caller holds a lock."""
        if self._sequence >= self._reserved:
            reserved = self._sequence + SEQUENCE_BLOCK
            durable.write(self.root / ".sequence", f"{reserved}\n".encode())
            self._reserved = reserved
        self._sequence += 1
        return self._sequence

    # --- jobs

    def job_dir(self, job_id: str) -> Path:
        return self.root / job_id

    def record_path(self, job_id: str) -> Path:
        return self.root / job_id / "job.json"

    def outputs(self, job_id: str) -> Path:
        return self.root / job_id / "outputs"

    def job_ids(self) -> Iterator[str]:
        """Every folder whose name is a job id, in no order. Other names are ignored."""
        with os.scandir(self.root) as found:
            for item in found:
                if is_job_id(item.name) and item.is_dir(follow_symlinks=False):
                    yield item.name

    def read_record(self, job_id: str) -> bytes | None:
        """The bytes of job.json; None if there is none.

        Raises OSError if the file may exist but cannot be read now.
        """
        try:
            descriptor = os.open(self.record_path(job_id), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise
        with open(descriptor, "rb") as file:
            return file.read()

    def stage(self, job_id: str) -> Staging:
        staging = Staging(job_id, self.staging / job_id, self._in_use)
        try:
            staging.folder.mkdir(mode=0o700)
        except OSError:
            staging.discard()
            raise
        return staging

    def empty_staging(self) -> None:
        """Remove uploads that ended while JOBS_DIR was gone, which nobody receives any more."""
        for item in list(self.staging.iterdir()):
            if item.name not in self._in_use:
                _remove(item)

    def remove_attempts(self, job_id: str) -> None:
        """Remove the workspaces of attempts that did not finish. The checkpoint stays."""
        for leftover in self.job_dir(job_id).glob("attempt-*"):
            _remove(leftover)

    def remove_checkpoint(self, job_id: str) -> None:
        """For a job that has ended: no attempt will need it."""
        _remove(self.job_dir(job_id) / "checkpoint")

    def remove_input(self, job_id: str) -> None:
        for name in ("input", "mesh.glb"):
            _remove(self.job_dir(job_id) / name)

    def publish_outputs(self, job_id: str, attempt: int, result: Result) -> None:
        """`attempt-<n>` becomes `outputs`; its result.json lets a restart finish the job."""
        workspace, outputs = self.job_dir(job_id) / f"attempt-{attempt}", self.outputs(job_id)
        durable.write(workspace / "result.json", json.dumps(result.to_dict()).encode() + b"\n")
        failpoint.reach("publish:recorded")
        if outputs.exists():
            durable.move(outputs, self._trash / f"{job_id}-{uuid4().hex}")
        try:
            durable.move(workspace, outputs)
        except OSError:  # perhaps renamed, but not durably: the attempt has failed
            _remove(outputs)
            raise
        failpoint.reach("publish:renamed")

    def published_result(self, job_id: str) -> Result | None:
        """The result of published outputs; None unless every file is there, with its full size."""
        try:
            record = json.loads((self.outputs(job_id) / "result.json").read_bytes())
            result = Result.from_dict(record)
            sizes = [os.lstat(self.outputs(job_id) / file.name).st_size for file in result.files]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return result if sizes == [file.bytes for file in result.files] else None

    def rollback_commit(self, job_id: str) -> None:
        """Undo a commit whose last fsync failed: the client gets an error, not a 202."""
        try:
            os.rename(self.job_dir(job_id), self._trash / f"{job_id}-{uuid4().hex}")
        except OSError:
            _remove(self.job_dir(job_id))  # a rename may need free space, this does not

    # --- trash, quarantine, marks

    def trash(self, job_id: str) -> None:
        """Move the job to .trash by one rename; `empty_trash` frees the space."""
        durable.move(self.job_dir(job_id), self._trash / f"{job_id}-{uuid4().hex}")
        failpoint.reach("delete:trashed")

    def empty_trash(self) -> None:
        """Remove what was deleted. Slow for big jobs: not for the event loop."""
        for item in list(self._trash.iterdir()):
            _remove(item)

    def quarantine(self, name: str, reason: str) -> None:
        """Move a folder that cannot be read to .quarantine, where the operator can inspect it."""
        log.error("%s is moved to .quarantine: %s", name, reason)
        try:
            durable.move(self.root / name, self._quarantine / f"{name}-{uuid4().hex[:8]}")
        except OSError as exc:
            log.error("%s could not be moved to .quarantine: %s", name, exc.strerror)

    def mark_webhook(self, job_id: str) -> None:
        """A webhook must be sent when this job has ended. Stored before the job is accepted."""
        durable.write(self._webhooks / job_id, b"")

    def has_webhook_mark(self, job_id: str) -> bool:
        """True until the webhook is delivered or no longer tried."""
        return (self._webhooks / job_id).exists()

    def unmark_webhook(self, job_id: str) -> None:
        (self._webhooks / job_id).unlink(missing_ok=True)

    def webhook_marks(self) -> list[str]:
        """The jobs whose webhook is not delivered yet, running ones included."""
        return [item.name for item in self._webhooks.iterdir() if is_job_id(item.name)]

    def mark_expired(self, job_id: str) -> None:
        (self._expired / job_id).touch(mode=0o600)

    def is_expired(self, job_id: str) -> bool:
        return (self._expired / job_id).exists()

    def forget_expired(self, before: float) -> None:
        """Remove the marks made before this time (seconds since the epoch)."""
        for item in list(self._expired.iterdir()):
            if item.stat().st_mtime < before:
                item.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free


class Staging:
    """A folder in .staging for one upload; it is in use until `discard`, which ends every upload.

    After acceptance `discard` has no effect on the job.
    """

    def __init__(self, job_id: str, folder: Path, in_use: set[str]) -> None:
        self.job_id = job_id
        self.folder = folder
        self._in_use = in_use
        in_use.add(job_id)
        self.input = folder / "input"
        self.mesh = folder / "mesh.glb"

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._in_use.discard(self.job_id)


def is_job_id(text: str) -> bool:
    """True for a lower-case UUID4; nothing else ever becomes part of a path."""
    return _JOB_ID.fullmatch(text) is not None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
