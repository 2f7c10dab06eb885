"""A Hugging Face hub on 127.0.0.1 that serves files from memory with the real protocol.

Enough of the protocol for `model_info` and `snapshot_download`: the list of a revision's files with
sizes and hashes, and the files with ETag, commit and byte ranges. Holds no tests.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]


@contextmanager
def running_hub(repositories: dict[str, Files], commit: str) -> Iterator[str]:
    """Serve `owner/name` -> files, all at one commit; gives the address for HF_ENDPOINT."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            path = self.path.split("?")[0].strip("/")
            for repo_id, files in repositories.items():
                if path.startswith(f"api/models/{repo_id}"):
                    facts = _tree(files) if "/tree/" in path else _facts(repo_id, files, commit)
                    listing = json.dumps(facts).encode()
                    return self._send(200, listing, {"Content-Type": "application/json"}, with_body)
                name = path.removeprefix(f"{repo_id}/resolve/").partition("/")[2]
                if path.startswith(f"{repo_id}/resolve/") and name in files:
                    body = files[name]
                    digest = hashlib.sha256(body).hexdigest()
                    headers = {"ETag": f'"{digest}"', "X-Repo-Commit": commit}
                    return self._send(200, body, headers, with_body)
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)

        def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
            start = 0
            if (asked := self.headers.get("Range", "")).startswith("bytes="):
                start = int(asked[6:].split("-")[0])
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                status = 206
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            if with_body:
                self.wfile.write(body[start:])

        def log_message(self, *args: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def safetensors(values: int) -> bytes:
    """A complete file with one tensor of zero bytes."""
    tensor = {"dtype": "U8", "shape": [values], "data_offsets": [0, values]}
    header = json.dumps({"weight": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(values)


def _facts(repo_id: str, files: Files, commit: str) -> dict[str, Any]:
    siblings = [
        {"rfilename": name, "size": len(body), "blobId": "", "lfs": _lfs("sha256", body)}
        for name, body in files.items()
    ]
    return {"id": repo_id, "modelId": repo_id, "sha": commit, "siblings": siblings}


def _tree(files: Files) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": name, "size": len(body), "oid": "", "lfs": _lfs("oid", body)}
        for name, body in files.items()
    ]


def _lfs(key: str, body: bytes) -> dict[str, Any]:
    return {key: hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 134}
