"""A Hugging Face hub on 127.0.0.1 that serves files from memory with the real protocol.

HF_ENDPOINT points huggingface_hub at it. It answers what `model_info` and `snapshot_download` ask:
the files of a revision with sizes and hashes, and the files with ETag, commit and byte ranges. It
counts what it sends, and fails as the real one may. Holds no tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from upstream.sources import SOURCES
from upstream.weights import DEFAULT_REVISIONS

Files = dict[str, bytes]

NEWEST = "fedcba9876543210fedcba9876543210fedcba98"
"""The commit of `main`; the other one that a repository has is its default revision."""

LAYOUTS: Mapping[str, str] = {
    "facebook/ActionMesh": """
        .gitattributes LICENSE README.md autoencoder/config.json autoencoder/model.safetensors
        denoiser/config.json denoiser/model.safetensors""",
    "VAST-AI/TripoSG": """
        .gitattributes README.md model_index.json scheduler/scheduler_config.json
        feature_extractor_dinov2/preprocessor_config.json image_encoder_dinov2/config.json
        image_encoder_dinov2/model.safetensors transformer/config.json
        transformer/diffusion_pytorch_model.safetensors vae/config.json
        vae/diffusion_pytorch_model.safetensors""",
    "facebook/dinov2-large": """
        .gitattributes README.md config.json model.safetensors preprocessor_config.json
        pytorch_model.bin""",
    "briaai/RMBG-1.4": """
        .gitattributes MyConfig.py README.md briarmbg.py config.json example_inference.py model.pth
        model.safetensors onnx/model.onnx onnx/model_fp16.onnx onnx/model_quantized.onnx
        preprocessor_config.json requirements.txt utilities.py""",
    "facebook/sam2.1-hiera-small": """
        .gitattributes README.md config.json model.safetensors preprocessor_config.json
        processor_config.json sam2.1_hiera_s.yaml sam2.1_hiera_small.pt
        video_preprocessor_config.json""",
}
"""The names of the real repositories' files at their default revisions (pictures left out)."""


@dataclass(frozen=True)
class Refusal:
    """A reply instead of the files; with `listed`, only for the files and not for their list."""

    status: int
    code: str = ""
    message: str = ""
    listed: bool = False


@dataclass
class Hub:
    """The repositories and their faults; a file's `path` is `owner/name/file`."""

    repositories: dict[str, Files]
    refusals: dict[str, Refusal] = field(default_factory=dict)
    vanished: set[str] = field(default_factory=set)
    """Repositories whose default revision is gone."""
    wrong: dict[str, bytes] = field(default_factory=dict)
    """By path: sent instead of the bytes whose hash is listed."""
    cuts: dict[str, int] = field(default_factory=dict)
    """By path: the connection ends after half of the bytes, so many times."""
    held: dict[str, threading.Event] = field(default_factory=dict)
    """By path: half of the bytes are sent, and the rest when the event is set."""
    on_xet: set[str] = field(default_factory=set)
    """Paths which the hub offers in its own storage protocol; that refuses every token."""
    is_down: bool = False
    """Every connection is closed without a reply."""
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes by path."""
    listings: Counter[str] = field(default_factory=Counter)
    """How often the files of a repository were asked for, with their sizes."""
    endpoint: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def size(self, path: str) -> int:
        owner, name, file = path.split("/", 2)
        return len(self.repositories[f"{owner}/{name}"][file])

    def has_revision(self, repo_id: str, revision: str) -> bool:
        default = next(
            DEFAULT_REVISIONS[source.name] for source in SOURCES if source.repo_id == repo_id
        )
        return revision in ("main", NEWEST) or (
            revision == default and repo_id not in self.vanished
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each reply takes 40 ms
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        """/api/models/owner/name/revision|tree/X, or /owner/name/resolve/X/file."""
        if self.hub.is_down:
            self.close_connection = True
            return
        parts = self.path.split("?")[0].strip("/").split("/", 7)
        is_list = parts[:2] == ["api", "models"]
        if len(parts) < (6 if is_list else 5):
            return self._refuse(Refusal(404))
        owner, name, kind, revision, *rest = parts[2:] if is_list else parts
        repo_id, file = f"{owner}/{name}", "/".join(rest)
        if repo_id not in self.hub.repositories:
            return self._refuse(Refusal(404, "RepoNotFound", "Repository not found"))
        refusal = self.hub.refusals.get(repo_id)
        if refusal is not None and not (is_list and refusal.listed):
            return self._refuse(refusal)
        if kind == "xet-read-token":
            return self._refuse(Refusal(401, message="Invalid credentials"))
        if not self.hub.has_revision(repo_id, revision):
            return self._refuse(Refusal(404, "RevisionNotFound", "Invalid rev id"))
        commit = NEWEST if revision == "main" else revision
        files = self.hub.repositories[repo_id]
        if is_list:
            with self.hub.lock:
                self.hub.listings[repo_id] += kind == "revision"
            facts = _tree(files) if kind == "tree" else _facts(repo_id, files, commit)
            self._send(json.dumps(facts).encode(), {"Content-Type": "application/json"})
        elif file in files:
            self._send_file(f"{repo_id}/{file}", files[file], commit)
        else:
            self._refuse(Refusal(404, "EntryNotFound", "Entry not found"))

    def _send_file(self, path: str, body: bytes, commit: str) -> None:
        headers = {"ETag": f'"{_etag(path, body)}"', "X-Repo-Commit": commit}
        if path in self.hub.on_xet:
            repo_id = "/".join(path.split("/")[:2])
            route = f"{self.hub.endpoint}/api/models/{repo_id}/xet-read-token/{commit}"
            headers.update({"X-Xet-Hash": "0" * 64, "Link": f'<{route}>; rel="xet-auth"'})
        self._send(self.hub.wrong.get(path, body), headers, path)

    def _send(self, body: bytes, headers: dict[str, str], path: str = "") -> None:
        start = 0
        if (asked := self.headers.get("Range", "")).startswith("bytes="):
            start = int(asked[6:].split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send_response(206 if start else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        middle = (start + len(body)) // 2
        self._count(path, body[start:middle])
        with self.hub.lock:
            is_cut = self.hub.cuts.get(path, 0) > 0
            self.hub.cuts[path] = self.hub.cuts.get(path, 0) - 1
        if is_cut:
            self.close_connection = True
            return
        if path in self.hub.held:
            self.wfile.flush()
            self.hub.held[path].wait()
        with contextlib.suppress(ConnectionError):  # the client gave up: its disk is full
            self._count(path, body[middle:])

    def _count(self, path: str, body: bytes) -> None:
        self.wfile.write(body)
        with self.hub.lock:
            self.hub.sent[path] += len(body)

    def _refuse(self, refusal: Refusal) -> None:
        self.send_response(refusal.status)
        for name, value in (("Code", refusal.code), ("Message", refusal.message)):
            if value:
                self.send_header(f"X-Error-{name}", value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


@contextmanager
def running_hub(repositories: dict[str, Files]) -> Iterator[Hub]:
    """Serve `owner/name` -> files until the block ends."""
    hub = Hub(repositories)
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        for event in hub.held.values():
            event.set()
        server.shutdown()
        server.server_close()
        thread.join()


def small_repositories(weights_bytes: int = 3_000) -> dict[str, Files]:
    """The real names with small valid content: configs, and safetensors of zero bytes."""
    repositories: dict[str, Files] = {}
    for repo_id, names in LAYOUTS.items():
        files = repositories[repo_id] = {}
        for number, name in enumerate(names.split()):
            # each with its own bytes: the cache keeps equal files once
            if name.endswith(".safetensors"):
                files[name] = safetensors(weights_bytes + 16 * number)
            else:
                text = '{"file": "%s"}' if name.endswith(".json") else "# %s\n"
                files[name] = (text % name).encode()
    return repositories


def safetensors(values: int) -> bytes:
    """A complete file with one tensor of zero bytes."""
    tensor = {"dtype": "U8", "shape": [values], "data_offsets": [0, values]}
    header = json.dumps({"weight": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(values)


def _is_large(name: str) -> bool:
    """Large files have their SHA-256 as ETag, the others git's id."""
    return name.endswith((".safetensors", ".bin", ".pth", ".onnx", ".pt"))


def _etag(name: str, body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if _is_large(name) else _git_id(body)


def _git_id(body: bytes) -> str:
    header = f"blob {len(body)}\0".encode()
    return hashlib.sha1(header + body, usedforsecurity=False).hexdigest()


def _facts(repo_id: str, files: Files, commit: str) -> dict[str, Any]:
    siblings = [
        {
            "rfilename": name,
            "size": len(body),
            "blobId": _git_id(body),
            **_lfs(name, "sha256", body),
        }
        for name, body in files.items()
    ]
    return {"id": repo_id, "modelId": repo_id, "sha": commit, "siblings": siblings}


def _tree(files: Files) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": name, "size": len(body), "oid": _git_id(body)}
        | _lfs(name, "oid", body)
        for name, body in files.items()
    ]


def _lfs(name: str, key: str, body: bytes) -> dict[str, Any]:
    if not _is_large(name):
        return {}
    digest = hashlib.sha256(body).hexdigest()
    return {"lfs": {key: digest, "size": len(body), "pointerSize": 134}}
