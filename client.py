#!/usr/bin/env python3
"""Client of ActionMesh Worker in one file: Python 3.8 or newer, nothing to install.

    from client import Client

    Client("http://gpu:8000").run("clip.mp4", out="out/")           # send, wait, save

    worker = Client()                                               # ACTIONMESH_URL, _API_KEY
    job_id = worker.submit("clip.mp4", mode="fast", seed=7)
    worker.wait(job_id, on_progress=print)
    worker.save(job_id, "out/", what="zip")

On the command line: `python client.py run clip.mp4`, and `--help` for the rest. A job belongs to
the server: a lost connection, a restarted server or the end of this program does not stop it.
"""

from __future__ import annotations

import argparse
import email.utils
import hashlib
import http.client
import io
import json
import logging
import os
import random
import re
import shlex
import shutil
import ssl
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

if TYPE_CHECKING:  # Python 3.8 does not support this syntax at run time
    PathLike = str | os.PathLike[str]
    State = dict[str, Any]
    """The body of GET /jobs/{id}: job_id, status, progress, outputs, files, error, ..."""
    States = list[State]
    Paths = list[Path]
    Headers = Mapping[str, str] | None
    Body = bytes | Iterable[bytes] | None
    Report = Callable[[State], None]
    ByteReport = Callable[[int], None]
T = TypeVar("T")

__version__ = "1.0.0"
DEFAULT_URL = "http://127.0.0.1:8000"
ENDED = ("finished", "error", "cancelled")
BUSY = (429, 502, 503, 504)
CONNECT_FOR_S, BUSY_FOR_S = 5.0, 600.0
"""How long the first connection is tried, and how long a full queue is tried again."""
CHUNK_BYTES = 1 << 18
GROUPS = {
    "zip": r"meshes\.zip", "frames": r"mesh_\d+\.glb", "animated": r"animated_mesh\.glb",
    "preview": r"preview\.mp4", "source": r"source\.mp4", "poster": r"poster\.\w+",
    "subject": r"subject\.\w+", "masks": r"masks\.zip",
}  # fmt: skip
"""The names that `save` accepts, beside `all` and names of files."""

log = logging.getLogger("actionmesh.client")


class ClientError(Exception):
    """The base of all errors that this file raises."""


class ServerUnreachable(ClientError):
    """The server does not answer, or the connection broke too often."""

    retry_after_s = 0.0


class BadReply(ClientError):
    """The server sent invalid data: a file with a wrong hash, a name that is a path."""


class ApiError(ClientError):
    """The server refused; `hint` says what to do, `request_id` is in its log."""

    def __init__(self, status: int, problem: Mapping[str, Any], retry_after_s: float = 0) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.detail = str(problem.get("detail", ""))
        self.hint = str(problem.get("hint", ""))
        self.request_id = str(problem.get("request_id", ""))
        self.retry_after_s = retry_after_s
        super().__init__(f"{self.detail} {self.hint}".strip() + f" ({self.code or status})")


class JobFailed(ClientError):
    """The job ended with an error; if `retryable`, the same job may succeed later."""

    def __init__(self, state: State) -> None:
        self.job_id = str(state.get("job_id", ""))
        self.code = str(state.get("error_code", ""))
        self.detail = str(state.get("error", ""))
        self.hint = str(state.get("error_hint", ""))
        self.retryable = bool(state.get("retryable"))
        super().__init__(f"{self.detail} {self.hint}".strip() + f" ({self.code})")


class JobCancelled(ClientError):
    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"Job {job_id} was cancelled.")


class WaitTimeout(ClientError):
    """The time to wait is over; the job continues, as `job_id`."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"Job {job_id} has not ended yet; it continues.")


def _ignore(state: State) -> None:
    """The default `on_progress`."""


class Client:
    """One server. Safe to share between threads: every request has its own connection.

    `patience_s` is how long requests about a job are repeated while the server does not answer,
    `silence_s` how long a connection may receive nothing.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience_s: float = 300.0,
        silence_s: float = 60.0,
    ) -> None:
        url = url or os.environ.get("ACTIONMESH_URL") or DEFAULT_URL
        self.url = (url if "://" in url else f"http://{url}").rstrip("/")
        self._address = urlsplit(self.url)
        if self._address.scheme not in ("http", "https") or not self._address.hostname:
            raise ValueError(f"not an http or https address: {url}")
        self._key = api_key or os.environ.get("ACTIONMESH_API_KEY") or ""
        self._patience_s, self._silence_s = patience_s, silence_s

    def run(
        self,
        video: PathLike,
        out: PathLike = "out",
        *,
        what: str = "all",
        timeout: float | None = None,
        on_progress: Report = _ignore,
        **options: Any,
    ) -> Paths:
        """Send a video, wait, save its files: submit, wait and save in one."""
        job_id = self.submit(video, on_progress=on_progress, **options)
        self.wait(job_id, timeout, on_progress)
        return self.save(job_id, out, what, on_progress)

    def submit(
        self,
        video: PathLike,
        *,
        mesh: PathLike | None = None,
        on_progress: Report = _ignore,
        **options: Any,
    ) -> str:
        """Send a video file, a zip of frames, or an http(s) address; the id of the new job.

        Options are those of OPTIONS. The request is safe to repeat, and is repeated when the
        connection breaks or the server is busy.
        """
        files = {} if mesh is None else {"mesh": Path(mesh)}
        if re.match(r"https?://", str(video)):
            options["video_url"] = str(video)
        else:
            files["file"] = Path(video)
        form = _Form(_fields(options), files, on_progress)
        answer = self._call("POST", "/jobs", form.headers, form, busy_s=BUSY_FOR_S)
        return str(answer["job_id"])

    def status(self, job_id: str) -> State:
        return self._call("GET", _job(job_id))

    def watch(self, job_id: str, timeout: float | None = None) -> Iterator[State]:
        """Every new state until the last, by server-sent events or by polling.

        Continues after lost connections and restarts of the server. Raises WaitTimeout.
        """
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        events = True
        while True:
            if events:
                events = yield from self._follow(job_id, deadline)
            left_s = max(0.0, deadline - time.monotonic())
            path = f"{_job(job_id)}?wait={min(1.0, left_s):.3f}"
            state = self._call("GET", path, patience_s=min(self._patience_s, left_s + 1))
            yield state
            if state.get("status") in ENDED:
                return
            if not left_s:
                raise WaitTimeout(job_id)

    def wait(
        self, job_id: str, timeout: float | None = None, on_progress: Report = _ignore
    ) -> State:
        """Block until the job is finished. Raises JobFailed, JobCancelled, WaitTimeout."""
        state: State = {}
        for state in self.watch(job_id, timeout):
            on_progress(state)
        if state["status"] == "error":
            raise JobFailed(state)
        if state["status"] == "cancelled":
            raise JobCancelled(job_id)
        return state

    def save(
        self, job_id: str, out: PathLike = "out", what: str = "all", on_progress: Report = _ignore
    ) -> Paths:
        """Download a finished job's files into the folder `out`; their paths.

        `what` is `all` or names with commas between: zip, frames, animated, preview, source,
        poster, subject, masks, or names of files. Existing files are kept, an interrupted download
        is resumed, and a file gets its name only after its hash was checked. Raises BadReply.
        """
        state = self.status(job_id)
        if state.get("status") != "finished":
            detail = f"Job {job_id} has no files yet: it is {state.get('status')}."
            raise ApiError(409, {"code": "job_not_finished", "detail": detail})
        wanted = _wanted([_File.of(entry) for entry in state.get("files", [])], what)
        Path(out).mkdir(parents=True, exist_ok=True)
        total, before = sum(file.bytes for file in wanted), 0
        saved: Paths = []
        for file in wanted:
            report = partial(_report_bytes, on_progress, "saving", before, total)
            saved.append(self._save_one(job_id, file, Path(out), report))
            before += file.bytes
        return saved

    def cancel(self, job_id: str) -> State:
        """Stop a queued or running job. Raises ApiError 409 if it has ended."""
        return self._call("POST", f"{_job(job_id)}/cancel")

    def retry(self, job_id: str, **changes: Any) -> str:
        """Start the same video again, perhaps with another mode, seed or fps; the new id."""
        body = json.dumps(_fields(changes)).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
        answer = self._call("POST", f"{_job(job_id)}/retry", headers, body, busy_s=BUSY_FOR_S)
        return str(answer["job_id"])

    def delete(self, job_id: str) -> State:
        """Delete a job and its files, in any state."""
        return self._call("DELETE", _job(job_id))

    def list(self, status: str = "", limit: int = 20) -> States:
        """The newest jobs, up to 100; `status` is one or several with commas between."""
        query = urlencode(_fields({"limit": limit, "status": status}))
        return [*self._call("GET", f"/jobs?{query}")["jobs"]]

    def info(self) -> State:
        """What the server runs, its modes and limits."""
        return self._call("GET", "/info")

    # --- downloads and events

    def _save_one(self, job_id: str, file: _File, folder: Path, report: ByteReport) -> Path:
        path = folder / file.name
        part = folder / f".{file.name}.{file.sha256[:12]}.part"
        fetch = partial(self._fetch, job_id, file, part, report)
        for _ in range(2):  # a wrong part is downloaded from its start again, once
            if file.is_at(path):
                report(file.bytes)
                return path
            while not self._repeat(fetch, self._patience_s):
                pass
            if file.is_at(part):
                os.replace(part, path)
                return path
            part.unlink()
        raise BadReply(f"{file.name} does not have the hash that the server sent.")

    def _fetch(self, job_id: str, file: _File, part: Path, report: ByteReport) -> bool:
        """Download the rest of `part`; False if the connection broke after some bytes."""
        done = got = part.stat().st_size if part.is_file() else 0
        if done >= file.bytes > 0:
            return True
        path = f"/outputs/{quote(job_id)}/{file.name}"
        headers = {"Range": f"bytes={done}-", "If-Range": f'"{file.sha256}"'} if done else {}
        try:
            with self._exchange("GET", path, headers, None, self._silence_s) as reply:
                resumed = reply.status == 206 and done > 0
                got = done if resumed else 0
                with open(part, "ab" if resumed else "wb") as target:
                    for chunk in _pieces(lambda: reply.read1(CHUNK_BYTES)):
                        target.write(chunk)
                        got += len(chunk)
                        report(got)
                        if got > file.bytes:
                            raise BadReply(f"{file.name} is longer than the server announced.")
            if got < file.bytes:
                raise ServerUnreachable(f"The download of {file.name} was interrupted.")
        except ServerUnreachable:
            if got <= done:
                raise
            return False
        return True

    def _follow(self, job_id: str, deadline: float) -> Generator[State, None, bool]:
        """States from the event stream, without the last one, which a GET reads.

        Returns False if this server has no event streams.
        """
        path, headers = f"{_job(job_id)}/events", {"Accept": "text/event-stream"}
        silence_s = max(0.1, min(self._silence_s, deadline - time.monotonic()))
        try:
            with self._exchange("GET", path, headers, None, silence_s) as reply:
                if not reply.headers.get("Content-Type", "").startswith("text/event-stream"):
                    return True
                for line in _pieces(lambda: reply.readline(1 << 20)):
                    if line.startswith(b"data:"):
                        state = json.loads(line[5:])
                        if state.get("status") in ENDED:
                            break
                        if "status" in state:
                            yield state
                    if time.monotonic() > deadline:
                        break
        except ApiError as exc:
            return exc.status not in (404, 405, 501)
        except (ServerUnreachable, ValueError):
            pass  # a GET, which is repeated, reads the state
        return True

    # --- requests

    def _call(
        self,
        method: str,
        path: str,
        headers: Headers = None,
        body: Body = None,
        patience_s: float = CONNECT_FOR_S,
        busy_s: float = 0.0,
    ) -> State:
        """One request and its JSON, repeated if that may help."""

        def attempt() -> State:
            with self._exchange(method, path, headers, body, self._silence_s) as reply:
                return _json(reply)

        return self._repeat(attempt, patience_s, busy_s)

    def _repeat(self, attempt: Callable[[], T], patience_s: float, busy_s: float = 0.0) -> T:
        """Try until it works or time is over; a busy server says when to try again."""
        began, tries = time.monotonic(), 0
        while True:
            try:
                return attempt()
            except (ServerUnreachable, ApiError) as exc:
                longest_s = min(0.5 * 2 ** min(tries, 9), 10.0)
                pause_s = max(random.uniform(0.5, 1.0) * longest_s, exc.retry_after_s)
                limit_s = max(busy_s, patience_s) if isinstance(exc, ApiError) else patience_s
                if not _may_succeed_later(exc) or time.monotonic() + pause_s - began > limit_s:
                    raise
                if tries or pause_s > 2:
                    log.warning("%s Trying again in %.0f s.", exc, max(1.0, pause_s))
            time.sleep(pause_s)
            tries += 1

    @contextmanager
    def _exchange(
        self, method: str, path: str, headers: Headers, body: Body, silence_s: float
    ) -> Iterator[http.client.HTTPResponse]:
        """One request on its own connection. Raises ServerUnreachable, ApiError."""
        host, port = str(self._address.hostname), self._address.port
        connection = http.client.HTTPConnection(host, port, timeout=silence_s)
        if self._address.scheme == "https":
            tls = ssl.create_default_context()  # the default of HTTPSConnection may be unsafe
            connection = http.client.HTTPSConnection(host, port, timeout=silence_s, context=tls)
        sent = {"Accept": "application/json", "User-Agent": "actionmesh-client", **(headers or {})}
        if self._key:
            sent["Authorization"] = f"Bearer {self._key}"
        try:
            with _network(self.url):
                connection.connect()
                try:
                    connection.request(method, self._address.path + path, body, sent)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # refused while the body is sent: the reply, if there is one, says why
                reply = connection.getresponse()
            if reply.status >= 300:
                raise _refusal(reply)
            yield reply
        finally:
            connection.close()


# --- parts of requests and replies


def _report_bytes(report: Report, stage: str, before: int, total: int, done: int) -> None:
    """Reports how many of all bytes are transferred, in the form of a job's progress."""
    percent = round(100 * (before + done) / max(1, total), 1)
    report({"status": stage, "progress": {"stage": stage, "percent": percent}})


class _Form:
    """A multipart body, read again each time it is sent: never whole in memory."""

    def __init__(self, fields: dict[str, str], files: dict[str, Path], report: Report) -> None:
        boundary = uuid.uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="%s"'
        self._parts: list[bytes | Path] = [
            f"{head % name}\r\n\r\n{value}\r\n".encode() for name, value in fields.items()
        ]
        for name, path in files.items():
            shown = re.sub(r'[\r\n"\\]', "_", path.name)
            media = "Content-Type: application/octet-stream"
            opening = f'{head % name}; filename="{shown}"\r\n{media}\r\n\r\n'
            self._parts += [opening.encode(), path, b"\r\n"]
        self._parts.append(f"--{boundary}--\r\n".encode())
        for path in files.values():
            open(path, "rb").close()  # a file that cannot be read is no network error
        length = sum(p.stat().st_size if isinstance(p, Path) else len(p) for p in self._parts)
        self._report = partial(_report_bytes, report, "uploading", 0, length)
        self.headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(length),
            "Idempotency-Key": uuid.uuid4().hex,
        }

    def __iter__(self) -> Iterator[bytes]:
        sent = 0
        for part in self._parts:
            for chunk in _read(part) if isinstance(part, Path) else (part,):
                yield chunk
                sent += len(chunk)
                self._report(sent)


@dataclass(frozen=True)
class _File:
    """One entry of a job's `files`, checked: its name is a plain name, never a path."""

    name: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> _File:
        name, size, digest = str(entry.get("name")), entry.get("bytes"), str(entry.get("sha256"))
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
            raise BadReply(f"The server names a file {name!r}, which is not a plain name.")
        if not isinstance(size, int) or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise BadReply(f"The server sent no size or no hash of {name}.")
        return cls(name, size, digest)

    def is_at(self, path: Path) -> bool:
        """True if `path` has the size and the hash of the file."""
        if not path.is_file() or path.stat().st_size != self.bytes:
            return False
        digest = hashlib.sha256()
        for chunk in _read(path):
            digest.update(chunk)
        return digest.hexdigest() == self.sha256


def _wanted(files: list[_File], what: str) -> list[_File]:
    """Raises ValueError for a name that is neither a group nor a file of the job."""
    if what == "all":
        return files
    wanted: list[_File] = []
    for name in filter(None, map(str.strip, what.split(","))):
        found = [f for f in files if re.fullmatch(GROUPS.get(name, re.escape(name)), f.name)]
        if not found:
            known = ", ".join(["all", *GROUPS])
            raise ValueError(f"the job has no {name!r}; ask for {known} or the name of a file")
        wanted += [file for file in found if file not in wanted]
    return wanted


def _fields(options: Mapping[str, Any]) -> dict[str, str]:
    """Options as form fields; what is None, False, empty text or an empty list is left out."""
    fields = {}
    for name, value in options.items():
        if isinstance(value, (list, tuple)):
            value = ",".join(map(str, value))
        if value is not None and value is not False and value != "":
            fields[name] = "true" if value is True else str(value)
    return fields


def _job(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _read(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk


@contextmanager
def _network(where: str = "the server") -> Iterator[None]:
    """Turns network errors into ServerUnreachable."""
    try:
        yield
    except (OSError, http.client.HTTPException) as exc:
        reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        raise ServerUnreachable(f"No answer from {where}: {reason}.") from exc


def _pieces(read: Callable[[], bytes]) -> Iterator[bytes]:
    while True:
        with _network():
            piece = read()
        if not piece:
            return
        yield piece


def _json(reply: http.client.HTTPResponse) -> State:
    with _network():
        body = reply.read()
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadReply("The reply is not JSON: is this the address of an ActionMesh Worker?")
    return found


def _refusal(reply: http.client.HTTPResponse) -> ApiError:
    """The error for a reply that is no success, even if a proxy wrote its body."""
    problem: State = {"detail": f"The server answered {reply.status} {reply.reason}."}
    if reply.status < 400:
        problem["hint"] = f"The address has moved: {reply.headers.get('Location')}."
    try:
        problem.update(_json(reply))
    except (BadReply, ServerUnreachable):
        pass  # a proxy's page has no more information than the status
    return ApiError(reply.status, problem, _seconds(reply.headers.get("Retry-After", "")))


def _may_succeed_later(exc: ServerUnreachable | ApiError) -> bool:
    """True if it may help to repeat the request."""
    if isinstance(exc, ApiError):
        return exc.status in BUSY or exc.code == "idempotency_in_progress"
    return not isinstance(exc.__cause__, ssl.SSLCertVerificationError)


def _seconds(retry_after: str) -> float:
    """Retry-After holds seconds or a date."""
    if retry_after.isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError):
        return 0.0


# --- the command line: results on stdout, messages on stderr

OPTIONS: dict[str, dict[str, Any]] = {  # of a job; `retry`: may a retry change it
    "--mode": {"help": "default, fast or fast_low_ram"},
    "--seed": {"type": int, "help": "another seed gives another mesh (ActionMesh)"},
    "--start": {"type": float, "metavar": "S", "help": "skip the first S seconds of the video"},
    "--fps": {"type": float, "help": "frames per second to take from the video"},
    "--max-frames": {"type": int, "metavar": "N", "help": "at most N frames: 16 to 121"},
    "--tries": {"type": int, "metavar": "N", "help": "the best of N shapes (ActionMesh): 1 to 8"},
    "--faces": {"type": int, "metavar": "N", "help": "about how many triangles: 1000 to 100000"},
    "--subject-box": {"metavar": "BOX", "help": "where the subject is: left,top,right,bottom, as "
                      "fractions of the first picture: 0.25,0.1,0.75,0.9"},
    "--subject-point": {"metavar": "X,Y", "help": "a point of the subject, in such fractions"},
    "--texture": {"help": "auto, or none: no colours from the video"},
    "--formats": {"metavar": "LIST", "help": "more formats: usdz, npz", "retry": False},
    "--blender-export": {"action": "store_true", "help": "also .fbx and .abc", "retry": False},
    "--webhook-url": {"metavar": "URL", "help": "called when the job has ended", "retry": False},
    "--mesh": {"metavar": "GLB", "help": "animate this mesh instead of a new one", "retry": False},
}  # fmt: skip
CHANGES = " ".join(name for name, about in OPTIONS.items() if about.pop("retry", True))
"""What a retry may change."""
ARGUMENTS: dict[str, dict[str, Any]] = {
    **OPTIONS,
    "video": {"help": "a video file, a .zip of frames, or an http(s) address"},
    "job": {"help": "the id of a job"},
    "--timeout": {"type": float, "metavar": "S", "help": "wait no longer than S seconds"},
    "-o/--out": {"metavar": "DIR", "help": "the folder to save into"},
    "--only": {"default": "all", "metavar": "LIST", "help": f"{', '.join(GROUPS)}, file names"},
}
_SENT = f"video {' '.join(OPTIONS)}"
COMMANDS = {  # what each does, and which arguments it takes
    "run": ("send a video, wait, save its files", f"{_SENT} --timeout -o/--out --only"),
    "submit": ("send a video and print the id of its job", _SENT),
    "status": ("the status of a job", "job"),
    "watch": ("follow a job until it has ended", "job --timeout"),
    "download": ("save the files of a finished job", "job -o/--out --only"),
    "cancel": ("stop a job", "job"),
    "retry": ("run a job again and print the new id", f"job {CHANGES}"),
    "rm": ("delete a job and its files", "job"),
    "ls": ("list the newest jobs", ""),
    "info": ("what the server runs, its modes and limits", ""),
}
EXITS = """exit codes: 0 done, 1 the job failed, 2 wrong usage or refused by the server,
3 server unreachable or too busy, 4 cancelled or timed out, 130 interrupted (the job continues)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals without Unicode
    terminal = Terminal(given.json)
    try:
        client = Client(given.url, given.api_key)
        transfers = given.command in ("run", "submit", "watch", "download")
        (_transfer if transfers else _request)(client, given, terminal)
        return 0
    except KeyboardInterrupt:
        again = _command(given, "watch", terminal.job_id)
        continues = f"The job continues. See it with: {again}"
        terminal.message(continues if terminal.job_id else "Interrupted.")
        return 130
    except (ClientError, ValueError, OSError) as exc:
        reason = f"{exc.strerror}: {exc.filename}" if isinstance(exc, OSError) else exc
        terminal.message(f"error: {reason}")
        if given.json:
            terminal.result("", {"error": type(exc).__name__, "message": str(exc), **vars(exc)})
        return _exit_code(exc)


def _exit_code(exc: Exception) -> int:
    if isinstance(exc, (JobFailed, BadReply)):
        return 1
    if isinstance(exc, (JobCancelled, WaitTimeout)):
        return 4
    if isinstance(exc, ServerUnreachable) or (isinstance(exc, ApiError) and exc.status in BUSY):
        return 3
    return 1 if isinstance(exc, ApiError) and exc.status >= 500 else 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Turn a short video into an animated 3D mesh, on an ActionMesh Worker.",
        epilog=EXITS,
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name, (about, arguments) in COMMANDS.items():
        command = commands.add_parser(name, help=about, description=f"{about}.", epilog=EXITS)
        for argument in arguments.split():
            command.add_argument(*argument.split("/"), **ARGUMENTS[argument])
        command.add_argument("--url", help=f"of the server (ACTIONMESH_URL, or {DEFAULT_URL})")
        command.add_argument("--api-key", metavar="KEY", help="better in ACTIONMESH_API_KEY")
        command.add_argument("--json", action="store_true", help="JSON lines on stdout")
    return parser


def _transfer(client: Client, given: argparse.Namespace, terminal: Terminal) -> None:
    """The commands that take time: run is submit, watch and download in one."""
    job_id, out = getattr(given, "job", ""), getattr(given, "out", None)
    facts: State = {}
    if given.command in ("run", "submit"):
        job_id = client.submit(given.video, on_progress=terminal.progress, **_options(given))
        facts, text = {"job_id": job_id}, job_id
        out = out or f"{Path(urlsplit(given.video).path).stem or 'video'}_mesh"
    terminal.job_id = job_id
    if given.command in ("run", "watch"):
        facts = client.wait(job_id, given.timeout, terminal.progress)
        text = _sentence(facts)
        if not given.json:
            for line in (*_summary(facts), *_warnings(facts, partial(_command, given))):
                terminal.message(line)
    if given.command in ("run", "download"):
        folder = text = out or f"mesh_{job_id[:8]}"
        paths = client.save(job_id, folder, given.only, terminal.progress)
        names = ("warnings", "view", "score", "texture")
        about = {name: facts[name] for name in names if facts.get(name)}
        facts = {"job_id": job_id, "status": "saved", "files": [str(path) for path in paths]}
        facts.update(about)
    terminal.result(text, facts)


def _request(client: Client, given: argparse.Namespace, terminal: Terminal) -> None:
    if given.command == "retry":
        job_id = client.retry(given.job, **_options(given))
        terminal.result(job_id, {"job_id": job_id})
    elif given.command == "info":
        info = client.info()
        terminal.result(json.dumps(info, indent=2, ensure_ascii=False), info)
    elif given.command == "ls":
        for job in client.list():
            words = [str(job.get(key) or "") for key in ("job_id", "created_at", "filename")]
            text = f"{words[0]}  {words[1][:19]}  {job.get('status'):<9}  {words[2]}"
            terminal.result(text, job)
    else:
        requests = {"status": client.status, "cancel": client.cancel, "rm": client.delete}
        state = requests[given.command](given.job)
        terminal.result(_sentence(state), state)


def _options(given: argparse.Namespace) -> dict[str, Any]:
    names = (name.strip("-").replace("-", "_") for name in OPTIONS)
    return {name: getattr(given, name) for name in names if hasattr(given, name)}


def _command(given: argparse.Namespace, *words: str) -> str:
    """A command line of this program for the same server."""
    url = ["--url", given.url] if given.url else []
    return f"python {shlex.join([Path(sys.argv[0]).name, *words, *url])}"


def _summary(state: State) -> Iterator[str]:
    """Where the video was filmed from, how well the mesh fits it, and its colours."""
    view, score, texture = (state.get(name) or {} for name in ("view", "score", "texture"))
    if view:
        angles = (
            f"{view['azimuth']:.0f}° from the front, {view['elevation']:.0f}° above the horizon"
        )
        yield f"camera: {angles} ({view['kind']})"
    if score:
        mean, motion = score["outline_mean"], score["motion"]
        word = "good" if mean >= 0.85 else "fair" if mean >= 0.75 else "poor"
        moves = "" if motion is None else f", motion {motion:.2f}"
        worst = f"{score['outline_worst']:.2f} in frame {score['worst_frame']}"
        yield f"fit: {word}, outlines overlap by {mean:.2f}, at worst {worst}{moves}"
    if texture.get("state") == "baked":
        parts = (f"{texture[name]:.0%} {name}" for name in ("seen", "mirrored", "filled"))
        yield f"colours: {', '.join(parts)}"
    elif texture.get("state") == "given":
        yield "colours: the mesh's own"
    elif texture:
        yield f"colours: {texture['state']}. {texture['reason']}"


def _warnings(state: State, command: Callable[..., str]) -> Iterator[str]:
    """What a person should know of a finished job, and how to ask for another subject."""
    for warning in state.get("warnings") or ():
        yield f"warning: {warning.get('message')} ({warning.get('code')})"
        for box in warning.get("boxes") or ():
            again = command("retry", str(state.get("job_id")), "--subject-box", str(box))
            yield f"  choose this subject: {again}"


def _sentence(state: State) -> str:
    status = str(state.get("status"))
    if status == "finished":
        mesh, total_s = state.get("mesh", {}), state.get("timings", {}).get("total", 0)
        size = f"{mesh.get('timesteps')} meshes of {mesh.get('vertices')} vertices"
        return f"finished: {size} in {total_s:.0f} s"
    if status == "error":
        return f"error: {state.get('error')} {state.get('error_hint')}"
    if state.get("cancel_requested"):
        return "stopping at its next step"
    return f"{status}: {_words(state)}" if "progress" in state or "eta_seconds" in state else status


class Terminal:
    """Progress as one line that is redrawn, or as JSON lines if there is no terminal."""

    def __init__(self, as_json: bool) -> None:
        self.job_id = ""
        self._json = as_json
        self._draws = sys.stderr.isatty() and not as_json
        self._last: tuple[object, ...] = ()

    def result(self, text: str, facts: State) -> None:
        """The result of the command, on stdout."""
        self.clear()
        print(json.dumps(facts, ensure_ascii=False) if self._json else text, flush=True)

    def message(self, text: str) -> None:
        """A message for people, on stderr."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

    def progress(self, state: State) -> None:
        """Redraw the line; or print a line of JSON for each new stage and each 5 %."""
        about = state.get("progress") or {}
        if self._draws:
            line = _bar(state)[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            return
        shown = (state.get("status"), about.get("stage"), float(about.get("percent") or 0) // 5)
        if shown != self._last:
            self._last = shown
            line = json.dumps({"job_id": self.job_id, "status": shown[0], **about})
            print(line, file=sys.stdout if self._json else sys.stderr, flush=True)

    def clear(self) -> None:
        if self._draws:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _bar(state: State) -> str:
    """`━━━━━━━━━━━━────────────  52 %  motion 12/31, 0:08 left`"""
    percent = float((state.get("progress") or {}).get("percent") or 0)
    percent = 100.0 if state.get("status") == "finished" else percent
    full = round(24 * percent / 100)
    return f"{'━' * full}{'─' * (24 - full)} {percent:3.0f} %  {_words(state)}"


def _words(state: State) -> str:
    about = state.get("progress") or {}
    words = str(about.get("stage") or state.get("status"))
    position = state.get("queue_position")
    if position is not None:
        words = f"{position} before it" if position else "next in the queue"
    elif int(about.get("steps") or 0) > 1:
        words += f" {about.get('step')}/{about['steps']}"
    left_s = about.get("eta_seconds") or state.get("eta_seconds")
    return words if left_s is None else f"{words}, {left_s // 60:.0f}:{left_s % 60:02.0f} left"


if __name__ == "__main__":
    sys.exit(main())
