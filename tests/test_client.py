"""The client against real servers: misbehaving ones for errors, the worker for the rest."""

from __future__ import annotations

import email
import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import client
from client import (
    ApiError,
    BadReply,
    Client,
    JobCancelled,
    JobFailed,
    ServerUnreachable,
    WaitTimeout,
)
from job.options import REQUEST_FIELDS, RETRY_FIELDS
from tests.misbehaving_server import (
    MisbehavingServer,
    Request,
    content,
    events,
    misbehaving_server,
    problem,
    reply,
)
from tests.servers import ROOT, ProcessServer, free_port

CLIP = ROOT / "examples" / "dancing_sprout.mp4"
BARE_PYTHON = [sys.executable, "-I", "-S", str(ROOT / "client.py")]
GLB = os.urandom(700_000)
ACCEPTED = reply({"job_id": "j1", "status": "queued"}, 202)
RUNNING = {"job_id": "j1", "status": "running", "progress": {"percent": 40.0, "stage": "motion"}}
FINISHED: dict[str, Any] = {
    "job_id": "j1",
    "status": "finished",
    "mesh": {"timesteps": 31, "vertices": 9},
    "timings": {"total": 3.0},
    "files": [
        {"name": "mesh_000.glb", "bytes": len(GLB), "sha256": hashlib.sha256(GLB).hexdigest()}
    ],
}


@pytest.fixture
def misbehaving() -> Iterator[MisbehavingServer]:
    with misbehaving_server() as server:
        yield server


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(os.urandom(100_000))
    return path


def call(
    *arguments: str, url: str = "", python: str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """The command line on a bare interpreter: no site packages, no environment."""
    return subprocess.run(
        [python, *BARE_PYTHON[1:], *arguments, *(["--url", url] if url else [])],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        timeout=60,
    )


# --- options


def test_its_options_are_those_of_the_server() -> None:
    def fields(flags: Iterable[str]) -> set[str]:
        return {flag.strip("-").replace("-", "_") for flag in flags}

    assert fields(client.OPTIONS) == set(REQUEST_FIELDS) - {"video_url"} | {"mesh"}
    assert fields(client.CHANGES.split()) == set(RETRY_FIELDS)


# --- sending


def test_a_clip_is_sent_as_one_form_with_its_options(
    misbehaving: MisbehavingServer, clip: Path
) -> None:
    misbehaving.on("POST /jobs", ACCEPTED)
    awkward = clip.rename(clip.with_name('my "best" clip é.mp4'))
    job_id = Client(misbehaving.url, "secret").submit(
        awkward, mode="fast", seed=0, fps=None, blender_export=True, formats=["usdz", "npz"]
    )
    assert job_id == "j1"
    seen = misbehaving.seen[0]
    head = f"Content-Type: {seen.headers['Content-Type']}\r\n\r\n".encode()
    parts = email.message_from_bytes(head + seen.body).walk()
    next(parts)
    sent = {part.get_param("name", header="content-disposition"): part for part in parts}
    fields = {k: v.get_payload() for k, v in sent.items() if k != "file"}
    assert fields == {"mode": "fast", "seed": "0", "blender_export": "true", "formats": "usdz,npz"}
    assert sent["file"].get_payload(decode=True) == awkward.read_bytes()
    assert seen.headers["Authorization"] == "Bearer secret"


def test_an_address_is_sent_as_video_url(misbehaving: MisbehavingServer) -> None:
    misbehaving.on("POST /jobs", ACCEPTED)
    Client(misbehaving.url).submit("https://example.org/cat.mp4")
    assert b'name="video_url"\r\n\r\nhttps://example.org/cat.mp4\r\n' in misbehaving.seen[0].body


def test_a_big_file_is_never_whole_in_memory(
    misbehaving: MisbehavingServer, tmp_path: Path
) -> None:
    def discard(request: Request) -> None:
        left = int(request.headers["Content-Length"])
        while left:
            left -= len(request.rfile.read1(min(left, 1 << 16)))
        ACCEPTED(request)

    discard.before_body = True  # type: ignore[attr-defined]
    misbehaving.on("POST /jobs", discard)
    big = tmp_path / "big.mp4"
    with open(big, "wb") as file:
        file.truncate(64_000_000)
    tracemalloc.start()
    try:
        Client(misbehaving.url).submit(big)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_request_to_a_busy_server_is_repeated_with_the_same_key(
    misbehaving: MisbehavingServer, clip: Path
) -> None:
    misbehaving.on("POST /jobs", problem(503, "queue_full", Retry_After="1"), ACCEPTED)
    began = time.monotonic()
    assert Client(misbehaving.url).submit(clip) == "j1"
    assert time.monotonic() - began >= 1
    first, second = misbehaving.asked("POST /jobs")
    assert first.headers["Idempotency-Key"] == second.headers["Idempotency-Key"]
    assert first.body == second.body


def test_two_submissions_have_two_keys(misbehaving: MisbehavingServer, clip: Path) -> None:
    misbehaving.on("POST /jobs", ACCEPTED)
    for _ in range(2):
        Client(misbehaving.url).submit(clip)
    assert len({seen.headers["Idempotency-Key"] for seen in misbehaving.seen}) == 2


def test_a_request_is_repeated_after_a_lost_reply(
    misbehaving: MisbehavingServer, clip: Path
) -> None:
    misbehaving.on("POST /jobs", Request.hang_up, problem(409, "idempotency_in_progress"), ACCEPTED)
    assert Client(misbehaving.url).submit(clip) == "j1"


def test_an_api_error_has_all_fields_of_the_problem(
    misbehaving: MisbehavingServer, clip: Path
) -> None:
    misbehaving.on("POST /jobs", problem(422, "video_too_short"))
    with pytest.raises(ApiError) as caught:
        Client(misbehaving.url).submit(clip)
    error = caught.value
    assert (error.status, error.code, error.request_id) == (422, "video_too_short", "r1")
    assert (error.detail, error.hint) == ("About video_too_short.", "Do better.")
    assert len(misbehaving.asked("POST /jobs")) == 1


def test_a_refusal_in_the_middle_of_the_body_is_still_read(
    misbehaving: MisbehavingServer, tmp_path: Path
) -> None:
    def refuse(request: Request) -> None:
        problem(413, "upload_too_large", Connection="close")(request)
        request.close_connection = True

    refuse.before_body = True  # type: ignore[attr-defined]
    misbehaving.on("POST /jobs", refuse)
    big = tmp_path / "big.mp4"
    with open(big, "wb") as file:
        file.truncate(30_000_000)
    with pytest.raises((ApiError, ServerUnreachable)) as caught:
        Client(misbehaving.url).submit(big)
    assert getattr(caught.value, "code", "upload_too_large") == "upload_too_large"


def test_a_proxys_error_page_is_reported_by_its_status(misbehaving: MisbehavingServer) -> None:
    misbehaving.on("GET /info", lambda request: request.send(500, b"<html>oops</html>", {}))
    with pytest.raises(ApiError, match="500"):
        Client(misbehaving.url).info()


def test_another_server_at_the_address_is_an_error(misbehaving: MisbehavingServer) -> None:
    misbehaving.on("GET /info", lambda request: request.send(200, b"<html>hello</html>", {}))
    with pytest.raises(BadReply, match="ActionMesh Worker"):
        Client(misbehaving.url).info()


def test_an_address_may_have_a_path(misbehaving: MisbehavingServer) -> None:
    misbehaving.on("GET /mesh/info", reply({"name": "here"}))
    assert Client(f"{misbehaving.url}/mesh/").info() == {"name": "here"}


@pytest.mark.parametrize("url", ["ftp://host", "http://"])
def test_a_wrong_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(url)


# --- waiting


def test_waiting_polls_if_there_are_no_events(misbehaving: MisbehavingServer) -> None:
    misbehaving.on("GET /jobs/j1", reply(RUNNING), reply(FINISHED))
    states: list[client.State] = []
    assert Client(misbehaving.url).wait("j1", on_progress=states.append) == FINISHED
    assert [state["status"] for state in states] == ["running", "finished"]
    assert len(misbehaving.asked("GET /jobs/j1/events")) == 1


def test_waiting_uses_events_if_there_are_any(misbehaving: MisbehavingServer) -> None:
    lines = f"event: progress\ndata: {json.dumps(RUNNING)}\n\n: heartbeat\n\n".encode()
    misbehaving.on(
        "GET /jobs/j1/events", events(lines[:20], lines[20:], b"event: done\ndata: {}\n\n")
    )
    misbehaving.on("GET /jobs/j1", reply(FINISHED))
    states: list[client.State] = []
    Client(misbehaving.url).wait("j1", on_progress=states.append)
    assert states == [RUNNING, FINISHED]


def test_an_event_stream_that_breaks_is_opened_again(misbehaving: MisbehavingServer) -> None:
    half = f"data: {json.dumps(RUNNING)}\n\ndata: {{".encode()
    misbehaving.on("GET /jobs/j1/events", events(half), events(half))
    misbehaving.on("GET /jobs/j1", reply(RUNNING), reply(FINISHED))
    assert Client(misbehaving.url).wait("j1")["status"] == "finished"
    assert len(misbehaving.asked("GET /jobs/j1/events")) == 2


def test_waiting_continues_after_a_restart_of_the_server() -> None:
    port = free_port()
    ended: list[client.State] = []
    with misbehaving_server(port) as first:
        first.on("GET /jobs/j1", reply(RUNNING))
        waiting = threading.Thread(target=lambda: ended.append(Client(first.url).wait("j1")))
        waiting.start()
        while not first.asked("GET /jobs/j1"):
            time.sleep(0.02)
    time.sleep(0.7)
    with misbehaving_server(port) as second:
        second.on("GET /jobs/j1", problem(503, "starting"), reply(FINISHED))
        waiting.join(100)
    assert ended == [FINISHED]


def test_a_reset_while_it_connects_is_tried_again(
    misbehaving: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, resets = socket.create_connection, [ConnectionResetError("reset by peer")]

    def reset_once(*where: Any, **how: Any) -> socket.socket:
        if resets:
            raise resets.pop()
        return connect(*where, **how)

    monkeypatch.setattr(socket, "create_connection", reset_once)
    misbehaving.on("GET /jobs/j1", reply(FINISHED))
    assert Client(misbehaving.url).status("j1") == FINISHED and not resets


def test_waiting_ends_if_the_server_does_not_return(tmp_path: Path) -> None:
    patient_for_a_second = Client(f"http://127.0.0.1:{free_port()}", patience_s=1)
    with pytest.raises(ServerUnreachable):
        patient_for_a_second.wait("j1")


def test_a_wait_timeout_has_the_job_id(misbehaving: MisbehavingServer) -> None:
    misbehaving.on("GET /jobs/j1", reply(RUNNING))
    with pytest.raises(WaitTimeout) as caught:
        Client(misbehaving.url).wait("j1", timeout=0.2)
    assert caught.value.job_id == "j1"


def test_a_silent_event_stream_ends_at_the_timeout(misbehaving: MisbehavingServer) -> None:
    time_is_over = threading.Event()

    def say_nothing(request: Request) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.end_headers()
        time_is_over.wait(600)
        request.close_connection = True

    misbehaving.on("GET /jobs/j1/events", say_nothing)
    misbehaving.on("GET /jobs/j1", reply(RUNNING))
    with pytest.raises(WaitTimeout):
        Client(misbehaving.url).wait("j1", timeout=0.5)
    time_is_over.set()


def test_a_failed_job_raises_its_error(misbehaving: MisbehavingServer) -> None:
    failed = {"error": "No GPU memory.", "error_code": "gpu_out_of_memory", "retryable": True}
    hint = {"error_hint": "Use fast_low_ram."}
    misbehaving.on("GET /jobs/j1", reply({"job_id": "j1", "status": "error", **failed, **hint}))
    with pytest.raises(JobFailed, match="No GPU memory. Use fast_low_ram.") as caught:
        Client(misbehaving.url).wait("j1")
    assert (caught.value.code, caught.value.retryable) == ("gpu_out_of_memory", True)


def test_a_cancelled_job_is_no_failed_one(misbehaving: MisbehavingServer) -> None:
    misbehaving.on("GET /jobs/j1", reply({"job_id": "j1", "status": "cancelled"}))
    with pytest.raises(JobCancelled):
        Client(misbehaving.url).wait("j1")


# --- saving


def test_an_interrupted_download_is_resumed(misbehaving: MisbehavingServer, tmp_path: Path) -> None:
    misbehaving.on("GET /jobs/j1", reply(FINISHED))
    rest = {"status": 206, "Content_Range": f"bytes 300000-{len(GLB) - 1}/{len(GLB)}"}
    misbehaving.on(
        "GET /outputs/j1/mesh_000.glb",
        content(GLB, slice(0, 300_000)),
        content(GLB, slice(300_000, None), **rest),  # type: ignore[arg-type]
    )
    assert Client(misbehaving.url).save("j1", tmp_path / "out") == [tmp_path / "out/mesh_000.glb"]
    assert (tmp_path / "out/mesh_000.glb").read_bytes() == GLB
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mesh_000.glb"]
    again = misbehaving.asked("GET /outputs/j1/mesh_000.glb")[1]
    assert again.headers["Range"] == "bytes=300000-"
    assert again.headers["If-Range"] == f'"{FINISHED["files"][0]["sha256"]}"'


def test_a_server_without_ranges_is_read_from_the_start(
    misbehaving: MisbehavingServer, tmp_path: Path
) -> None:
    misbehaving.on("GET /jobs/j1", reply(FINISHED))
    misbehaving.on("GET /outputs/j1/mesh_000.glb", content(GLB, slice(0, 300_000)), content(GLB))
    [path] = Client(misbehaving.url).save("j1", tmp_path)
    assert path.read_bytes() == GLB


def test_a_file_that_is_there_is_not_fetched_again(
    misbehaving: MisbehavingServer, tmp_path: Path
) -> None:
    misbehaving.on("GET /jobs/j1", reply(FINISHED))
    (tmp_path / "mesh_000.glb").write_bytes(GLB)
    Client(misbehaving.url).save("j1", tmp_path)
    assert not misbehaving.asked("GET /outputs/j1/mesh_000.glb")


def test_a_file_with_a_wrong_hash_is_not_saved(
    misbehaving: MisbehavingServer, tmp_path: Path
) -> None:
    misbehaving.on("GET /jobs/j1", reply(FINISHED))
    misbehaving.on("GET /outputs/j1/mesh_000.glb", content(bytes(len(GLB))))
    with pytest.raises(BadReply, match="hash"):
        Client(misbehaving.url).save("j1", tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(misbehaving.asked("GET /outputs/j1/mesh_000.glb")) == 2


def test_more_than_was_announced_is_not_kept(
    misbehaving: MisbehavingServer, tmp_path: Path
) -> None:
    misbehaving.on("GET /jobs/j1", reply(FINISHED))
    misbehaving.on("GET /outputs/j1/mesh_000.glb", content(GLB + b"more"))
    with pytest.raises(BadReply, match="longer"):
        Client(misbehaving.url).save("j1", tmp_path)
    assert not (tmp_path / "mesh_000.glb").exists()


@pytest.mark.parametrize(
    "name", ["../mesh.glb", "/etc/passwd", "a/b.glb", "", ".ssh", "a\\b", "C:x"]
)
def test_a_name_that_is_a_path_is_refused(
    misbehaving: MisbehavingServer, tmp_path: Path, name: str
) -> None:
    misbehaving.on(
        "GET /jobs/j1", reply({**FINISHED, "files": [{**FINISHED["files"][0], "name": name}]})
    )
    with pytest.raises(BadReply, match="plain name"):
        Client(misbehaving.url).save("j1", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_no_network_error(misbehaving: MisbehavingServer, tmp_path: Path) -> None:
    misbehaving.on("GET /jobs/j1", reply(FINISHED))
    misbehaving.on("GET /outputs/j1/mesh_000.glb", content(GLB))
    (tmp_path / f".mesh_000.glb.{FINISHED['files'][0]['sha256'][:12]}.part").mkdir()
    with pytest.raises(IsADirectoryError):
        Client(misbehaving.url).save("j1", tmp_path)


def test_only_what_was_asked_for_is_saved(misbehaving: MisbehavingServer, tmp_path: Path) -> None:
    misbehaving.on("GET /jobs/j1", reply(FINISHED))
    with pytest.raises(ValueError, match="no 'zip'"):
        Client(misbehaving.url).save("j1", tmp_path, "zip")


# --- the command line


def test_a_bare_python_can_run_it() -> None:
    result = call("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in client.COMMANDS)


@pytest.mark.parametrize("arguments", [["run"], ["fly"], ["run", "nowhere.mp4"]])
def test_wrong_usage_exits_with_2(arguments: list[str], misbehaving: MisbehavingServer) -> None:
    assert call(*arguments, url=misbehaving.url).returncode == 2


def test_a_folder_instead_of_a_file_is_an_error_at_once(
    misbehaving: MisbehavingServer, tmp_path: Path
) -> None:
    called = call("submit", str(tmp_path), url=misbehaving.url)
    assert called.returncode == 2 and "Is a directory" in called.stderr


def test_an_unreachable_server_exits_with_3() -> None:
    result = call("info", url=f"http://127.0.0.1:{free_port()}")
    assert result.returncode == 3
    assert "Connection refused" in result.stderr


def test_a_run_prints_its_folder_and_progress_as_json_lines(
    misbehaving: MisbehavingServer, clip: Path, tmp_path: Path
) -> None:
    misbehaving.on("POST /jobs", ACCEPTED)
    misbehaving.on("GET /jobs/j1", reply(RUNNING), reply(FINISHED))
    misbehaving.on("GET /outputs/j1/mesh_000.glb", content(GLB))
    result = call("run", str(clip), "--out", str(tmp_path / "out"), url=misbehaving.url)
    assert (result.returncode, result.stdout) == (0, f"{tmp_path / 'out'}\n")
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert {"uploading", "running", "finished", "saving"} == {line["status"] for line in lines}


def test_with_json_everything_is_json_on_stdout(
    misbehaving: MisbehavingServer, clip: Path, tmp_path: Path
) -> None:
    misbehaving.on("POST /jobs", ACCEPTED)
    misbehaving.on("GET /jobs/j1", reply(FINISHED))
    misbehaving.on("GET /outputs/j1/mesh_000.glb", content(GLB))
    result = call("run", str(clip), "--out", str(tmp_path), "--json", url=misbehaving.url)
    assert (result.returncode, result.stderr) == (0, "")
    last = [json.loads(line) for line in result.stdout.splitlines()][-1]
    files = [str(tmp_path / "mesh_000.glb")]
    assert last == {"job_id": "j1", "status": "saved", "files": files}


def test_a_run_prints_warnings_and_how_to_choose_another_subject(
    misbehaving: MisbehavingServer, clip: Path, tmp_path: Path
) -> None:
    several = {
        "code": "several_subjects", "message": "Two subjects were found.",
        "boxes": ["0.1,0.2,0.4,0.9", "0.5,0.2,0.9,0.9"],
    }  # fmt: skip
    misbehaving.on("POST /jobs", ACCEPTED)
    misbehaving.on("GET /jobs/j1", reply({**FINISHED, "warnings": [several]}))
    misbehaving.on("GET /outputs/j1/mesh_000.glb", content(GLB))
    result = call("run", str(clip), "--out", str(tmp_path), url=misbehaving.url)
    assert "warning: Two subjects were found. (several_subjects)\n" in result.stderr
    for box in several["boxes"]:
        again = f"client.py retry j1 --subject-box {box} --url {misbehaving.url}\n"
        assert again in result.stderr
    result = call("run", str(clip), "--out", str(tmp_path), "--json", url=misbehaving.url)
    assert json.loads(result.stdout.splitlines()[-1])["warnings"] == [several]
    assert result.stderr == ""


def test_a_choice_is_sent_in_a_run_and_in_a_retry(
    misbehaving: MisbehavingServer, clip: Path
) -> None:
    misbehaving.on("POST /jobs", ACCEPTED)
    misbehaving.on("POST /jobs/j1/retry", ACCEPTED)
    call("submit", str(clip), "--subject-box", "0.1,0.2,0.4,0.9", url=misbehaving.url)
    assert b'name="subject_box"\r\n\r\n0.1,0.2,0.4,0.9\r\n' in misbehaving.seen[-1].body
    call("retry", "j1", "--subject-point", "0.5,0.4", url=misbehaving.url)
    assert json.loads(misbehaving.seen[-1].body) == {"subject_point": "0.5,0.4"}
    Client(misbehaving.url).retry("j1", subject_box=(0.1, 0.2, 0.4, 0.9), seed=0)
    sent = json.loads(misbehaving.seen[-1].body)
    assert sent == {"subject_box": "0.1,0.2,0.4,0.9", "seed": "0"}


@pytest.mark.parametrize(
    ("status", "code"), [("error", 1), ("cancelled", 4), ("running", 4), ("finished", 0)]
)
def test_the_exit_code_of_watch_depends_on_the_end_of_the_job(
    misbehaving: MisbehavingServer, status: str, code: int
) -> None:
    misbehaving.on("GET /jobs/j1", reply({**RUNNING, "status": status}))
    assert call("watch", "j1", "--timeout", "0.1", url=misbehaving.url).returncode == code


def test_ctrl_c_does_not_stop_the_job_and_prints_how_to_watch_it(
    misbehaving: MisbehavingServer,
) -> None:
    misbehaving.on("GET /jobs/j1", reply(RUNNING))
    command = [*BARE_PYTHON, "watch", "j1", "--url", misbehaving.url]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not misbehaving.asked("GET /jobs/j1"):
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert f"client.py watch j1 --url {misbehaving.url}" in stderr
    assert not misbehaving.asked("POST /jobs/j1/cancel")


def test_an_empty_mesh_is_an_error_and_not_a_job_without_it(
    misbehaving: MisbehavingServer, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"video")
    result = call("submit", str(clip), "--mesh", "", url=misbehaving.url)
    assert result.returncode == 2
    assert not misbehaving.asked("POST /jobs")


def test_a_self_signed_certificate_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    pair = tmp_path / "pair.pem"
    subject = ["-subj", "/CN=localhost", "-days", "2", "-nodes", "-newkey", "rsa:2048"]
    files = ["-keyout", str(pair), "-out", str(tmp_path / "cert.pem")]
    subprocess.run(["openssl", "req", "-x509", *subject, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", pair)
    with misbehaving_server() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = f"https://localhost:{server.server_port}"
        result = call("info", url=url)
        # what many notebooks do to reach some other server
        monkeypatch.setattr(ssl, "_create_default_https_context", ssl._create_unverified_context)
        with pytest.raises(ServerUnreachable, match="certificate|CERTIFICATE"):
            Client(url).info()
    assert result.returncode == 3
    assert "CERTIFICATE_VERIFY_FAILED" in result.stderr or "certificate" in result.stderr


# --- the worker itself


def other_pythons() -> list[str]:
    """The oldest and the newest CPython that this machine has, by version: pyenv's and PATH's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    named = filter(None, (shutil.which(f"python3.{minor}") for minor in range(8, 20)))
    kept = map(str, pyenv.glob("versions/3.*/bin/python3"))
    found: dict[tuple[int, ...], str] = {}
    for python in (*kept, *named):
        version_text = subprocess.run(
            [python, "-ISc", "import sys; print(*sys.version_info[:3])"],
            capture_output=True, text=True,
        )  # fmt: skip
        if version_text.returncode == 0:  # else a shim without a version behind it
            version = tuple(map(int, version_text.stdout.split()))
            found.setdefault(version, python)
    versions = sorted(version for version in found if version >= (3, 8))
    return [found[version] for version in dict.fromkeys([*versions[:1], *versions[-1:]])]


def test_the_oldest_and_the_newest_python_can_run_it(
    start_server: Callable[..., ProcessServer], tmp_path: Path
) -> None:
    pythons = other_pythons()
    if not pythons:
        pytest.skip("there is no other Python here")
    server = start_server(PIPELINE="tests.pipelines:Specks")
    for k, python in enumerate(pythons):
        out = tmp_path / f"out-{k}"
        ran = call("run", str(CLIP), "--out", str(out), url=server.url, python=python)
        assert ran.returncode == 0, f"{python}: {ran.stderr}"
        assert {"animated_mesh.glb", "meshes.zip"} <= {path.name for path in out.iterdir()}, python
        refused = call("run", str(CLIP), "--mode", "fsat", url=server.url, python=python)
        assert refused.returncode == 2 and "fsat" in refused.stderr, f"{python}: {refused.stderr}"
        listed = call("ls", url=server.url, python=python)
        assert listed.returncode == 0 and "finished" in listed.stdout, f"{python}: {listed.stderr}"


def test_a_clip_becomes_meshes_on_a_bare_python(server: ProcessServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    few = ["--mode", "fast_low_ram", "--max-frames", "16", "--seed", "7"]
    result = call("run", str(CLIP), *few, "--out", str(out), "--json", url=server.url)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    percents = [line["percent"] for line in lines if line["status"] == "running"]
    assert percents == sorted(percents)
    assert {path.name for path in out.iterdir()} >= {
        *(f"mesh_{k:03d}.glb" for k in range(16)), "animated_mesh.glb", "meshes.zip", "preview.mp4"
    }  # fmt: skip

    worker, job_id = Client(server.url), lines[-1]["job_id"]
    assert worker.status(job_id)["options"]["seed"] == 7
    assert job_id in {job["job_id"] for job in worker.list(status="finished")}
    assert [p.name for p in worker.save(job_id, tmp_path, "zip,poster")] == [
        "meshes.zip", "poster.webp"
    ]  # fmt: skip
    with pytest.raises(ApiError) as caught:
        worker.cancel(job_id)
    assert caught.value.status == 409
    assert worker.delete(job_id)["status"] == "deleted"
    assert call("status", job_id, url=server.url).returncode == 2


def test_a_job_can_be_cancelled_from_elsewhere(server: ProcessServer) -> None:
    worker = Client(server.url)
    job_id = worker.submit(CLIP)
    threading.Timer(1.0, lambda: worker.cancel(job_id)).start()
    with pytest.raises(JobCancelled):
        worker.wait(job_id, timeout=60)


@pytest.mark.parametrize(
    ("path", "options", "code"),
    [
        ("pyproject.toml", {}, "unsupported_media_type"),
        ("examples/dancing_sprout.mp4", {"mode": "fsat"}, "invalid_parameter"),
        ("examples/dancing_sprout.mp4", {"start": 1.9}, "video_too_short"),
    ],
)
def test_what_the_worker_refuses_comes_with_its_code(
    server: ProcessServer, path: str, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(ApiError) as caught:
        Client(server.url).submit(ROOT / path, **options)
    assert caught.value.code == code
    assert caught.value.hint
