"""deploy/runpod_handler.py in RunPod's own local test server: real jobs, no account, no network."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.bodies import frames_zip
from tests.servers import ROOT, free_port
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("runpod") is None or importlib.util.find_spec("boto3") is None,
        reason="runpod or boto3 is not installed (requirements/deploy.txt)",
    ),
]

CLIP = base64.b64encode(frames_zip()).decode()


class Receiver(ThreadingHTTPServer):
    """Receives RunPod's progress reports, and files for a bucket."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.posted: list[dict[str, Any]] = []
        self.stored: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Receive(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        path, _, query = self.path.partition("?")
        body = self._body()
        if query == "uploads":  # S3: an upload in parts begins
            self.server.stored[path] = b""
            self._answer(b"<R><Bucket>b</Bucket><Key>k</Key><UploadId>1</UploadId></R>")
        elif query.startswith("uploadId="):  # and ends
            parts = (part for (of, _), part in sorted(self.server.parts.items()) if of == path)
            self.server.stored[path] = b"".join(parts)
            self._answer(b"<R><ETag>e</ETag></R>")
        else:
            self.server.posted.append(json.loads(body))
            self._answer()

    def do_PUT(self) -> None:
        path, _, query = self.path.partition("?")
        part = re.search(r"partNumber=(\d+)", query)
        if part:
            self.server.parts[path, int(part[1])] = self._body()
        else:
            self.server.stored[path] = self._body()
        self._answer()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            size = int(self.headers.get("Content-Length", 0))
            return _plain(self.rfile.read(size), self.headers)
        raw = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            raw += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return _plain(raw, self.headers)

    def _answer(self, body: bytes = b"") -> None:
        self.send_response(200)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """No log lines."""


def _plain(body: bytes, headers: Any) -> bytes:
    """boto3 signs uploads in its own chunks: `<size in hex>;...` lines between the bytes."""
    if "aws-chunked" not in headers.get("Content-Encoding", ""):
        return body
    plain, rest = b"", body
    while rest:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line.partition(b";")[0] or b"0", 16)
        if not size:
            break
        plain, rest = plain + rest[:size], rest[size + 2 :]
    return plain


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


@contextmanager
def local_server(folder: Path, **environment: str) -> Iterator[httpx.Client]:
    """`python -m deploy.runpod_handler --rp_serve_api`."""
    port = free_port()
    with open(folder / "handler.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.runpod_handler", "--rp_serve_api",
             "--rp_api_port", str(port), "--rp_api_host", "127.0.0.1"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "PIPELINE": "tests.pipelines:Bends",
                "TMPDIR": str(folder),
                "RUNPOD_SKIP_GPU_CHECK": "true",
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=60.0) as client:
            wait_until(lambda: _answers(client, process, folder / "handler.log"), 60.0)
            yield client
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait(10)


def _answers(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return client.get("/docs").status_code < 500
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("runpod")
    posts = f"{receiver.url}/job-done/$ID?x=1"
    with local_server(folder, RUNPOD_WEBHOOK_POST_OUTPUT=posts) as client:
        yield client
        assert not list(folder.glob("job-*")), "a job's folder was left behind"


def run(client: httpx.Client, **given: Any) -> dict[str, Any]:
    """The reply of /runsync."""
    response = client.post("/runsync", json={"input": given})
    assert response.status_code == 200, response.text
    reply: dict[str, Any] = response.json()
    return reply


def test_a_job_returns_its_files_in_base64_and_reports_progress(
    handler: httpx.Client, receiver: Receiver
) -> None:
    reply = run(handler, video_base64=CLIP, files=["animated_mesh.glb", "mesh_000.glb"])
    assert reply["status"] == "COMPLETED", reply
    output = reply["output"]
    assert [file["name"] for file in output["files"]] == ["animated_mesh.glb", "mesh_000.glb"]
    for file in output["files"]:
        content = base64.b64decode(file["base64"])
        assert content[:4] == b"glTF" and len(content) == file["bytes"]
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert output["mesh"]["timesteps"] == 16
    wait_until(lambda: any(post["output"]["stage"] == "rendering" for post in receiver.posted))
    assert all(post["status"] == "IN_PROGRESS" for post in receiver.posted)
    assert {"extracting", "shape"} <= {post["output"]["stage"] for post in receiver.posted}


def test_a_chosen_subject_comes_with_its_masks(handler: httpx.Client, receiver: Receiver) -> None:
    reply = run(handler, video_base64=CLIP, subject_box="0.2,0.2,0.8,0.8", files=["masks.zip"])
    assert reply["status"] == "COMPLETED", reply
    (masks,) = reply["output"]["files"]
    assert base64.b64decode(masks["base64"])[:2] == b"PK"
    assert reply["output"]["subject"]["method"] == "alpha"
    assert reply["output"]["texture"]["state"] == "skipped"  # the pictures are too small
    assert {"view", "score", "tries"} < reply["output"].keys()
    assert not any("ready" in post["output"] for post in receiver.posted)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "missing_input"),
        ({"video_base64": CLIP, "video_url": "https://example.org/a.mp4"}, "both_inputs"),
        ({"video_base64": "no base64!"}, "invalid_parameter"),
        ({"video_base64": base64.b64encode(b"text").decode()}, "unsupported_media_type"),
        ({"video_base64": CLIP, "mode": "fats"}, "Did you mean `fast`?"),
        ({"video_base64": CLIP, "fsp": 12}, "Did you mean `fps`?"),
        ({"video_base64": CLIP, "subject_point": "0.5"}, "not 1"),
        ({"video_base64": CLIP, "files": ["../job.json"]}, "no file ../job.json"),
        ({"video_url": "http://127.0.0.1/a.mp4"}, "url_not_allowed"),
    ],
)
def test_a_failed_job_returns_its_error(
    handler: httpx.Client, given: dict[str, Any], words: str
) -> None:
    reply = run(handler, **given)
    assert reply["status"] == "FAILED" and words in reply["error"], reply
    assert "Traceback" not in reply["error"]


def test_a_lost_process_is_tried_three_times(tmp_path: Path) -> None:
    with local_server(tmp_path, PIPELINE="tests.pipelines:Exits") as client:
        assert "worker_crashed" in run(client, video_base64=CLIP)["error"]
    with local_server(tmp_path, PIPELINE="tests.pipelines:Segfaults") as client:
        assert "input_crashes_pipeline" in run(client, video_base64=CLIP)["error"]
    with local_server(tmp_path, PIPELINE="tests.pipelines:IsKilledOnce") as client:
        assert run(client, video_base64=CLIP, files=["preview.mp4"])["status"] == "COMPLETED"


def test_with_a_bucket_the_files_come_as_urls(tmp_path: Path, receiver: Receiver) -> None:
    bucket = {
        "BUCKET_ENDPOINT_URL": receiver.url,
        "BUCKET_ACCESS_KEY_ID": "key",
        "BUCKET_SECRET_ACCESS_KEY": "secret",
        "BUCKET_NAME": "meshes",
    }
    with local_server(tmp_path, **bucket) as client:
        reply = run(client, video_base64=CLIP)
    assert reply["status"] == "COMPLETED", reply
    for file in reply["output"]["files"]:
        path = httpx.URL(file["url"]).path
        assert path.startswith("/meshes/actionmesh/job-") and "base64" not in file
        assert hashlib.sha256(receiver.stored[path]).hexdigest() == file["sha256"]


def test_the_warnings_say_why_a_file_was_not_made() -> None:
    code = (
        "from pathlib import Path\n"
        "from deploy.runpod_handler import packed\n"
        "from job.task import Result\n"
        "warnings = ({'code': 'skin_inexact', 'message': 'Bones cannot move this mesh.'},)\n"
        "result = Result((), {}, {}, {}, warnings)\n"
        "try: packed(result, Path('.'), ('skinned_mesh.glb',))\n"
        "except Exception as error: print(error.message, error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    expected = "The job made no file skinned_mesh.glb. Bones cannot move this mesh.\n"
    assert done.stdout == expected, done.stderr


def test_a_result_over_the_limit_is_an_error_with_a_hint(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from deploy.runpod_handler import packed\n"
        "from job.task import OutputFile, Result\n"
        "files = (OutputFile('meshes.zip', 7_600_000, '0' * 64),)\n"
        "try: packed(Result(files, {}, {}, {}), Path('.'), ())\n"
        "except Exception as error: print(error.message, error.hint)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert "RunPod takes 10000000" in done.stdout and "BUCKET_NAME" in done.stdout, done.stderr
