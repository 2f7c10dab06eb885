"""The page at /, its files, and client.py: small files from this repository, kept in memory.

The files of web/ are served under their own relative names, no others. Each is read at its first
request and again when it has changed on disk; text goes out compressed.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.app_state import NAME, VERSION
from api.openapi import CLIENT, LINKS, answers
from api.responses import JsonResponse, has_already
from errors import NotFound

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"
EXAMPLE = ROOT / "examples" / "dancing_sprout.mp4"
"""What the page sends when somebody only wants to try it; at /example.mp4."""

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".py": "text/x-python; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".wasm": "application/wasm",
    ".mp4": "video/mp4",
}
_COMPRESSED = (".html", ".css", ".js", ".json", ".svg", ".txt", ".py", ".wasm")


class KeptFile:
    """One file, its bytes and its tag, as of its last change on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed_at = 0
        self._plain = b""
        self._packed: bytes | None = None
        self._tag = ""

    def reply(self, request: Request) -> Response:
        """200 or 304. A few microseconds once the file is in memory."""
        changed_at = self._path.stat().st_mtime_ns
        if changed_at != self._changed_at:
            self._read(changed_at)
        headers = {"ETag": self._tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if has_already(request, self._tag):
            return Response(status_code=304, headers=headers)
        content = self._plain
        if self._packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["Content-Encoding"] = self._packed, "gzip"
        return Response(content, headers=headers, media_type=MEDIA_TYPES[self._path.suffix])

    def _read(self, changed_at: int) -> None:
        self._plain = self._path.read_bytes()
        # weak, because the same tag stands for the compressed form too
        self._tag = f'W/"{hashlib.sha256(self._plain).hexdigest()[:24]}"'
        if self._path.suffix in _COMPRESSED:
            self._packed = gzip.compress(self._plain, 6, mtime=0)
        self._changed_at = changed_at


def kept_files(web: Path = WEB) -> dict[str, KeptFile]:
    """Address -> file, for every file of web/ that has a media type of ours, and the example."""
    found = sorted(web.rglob("*")) if web.is_dir() else []
    files = {
        f"/{path.relative_to(web).as_posix()}": KeptFile(path)
        for path in found
        if path.suffix in MEDIA_TYPES and path.is_file() and not path.is_symlink()
    }
    if files and EXAMPLE.is_file():
        files["/example.mp4"] = KeptFile(EXAMPLE)
    return files


def page_router(files: dict[str, KeptFile]) -> APIRouter:
    """Routes for the page (or, without one, a list of links), its files and the client."""
    router = APIRouter(tags=["page"])
    client = KeptFile(ROOT / "client.py")

    @router.get("/", summary="The page", responses={**LINKS, **answers()})
    async def page(request: Request) -> Response:
        """The web page; a list of links where it is not installed."""
        if "/index.html" in files:
            return files["/index.html"].reply(request)
        root = request.scope.get("root_path", "")
        links = {name: f"{root}/{name}" for name in ("docs", "info", "health", "ready", "jobs")}
        return JsonResponse({"name": NAME, "version": VERSION, **links})

    replies = {**CLIENT, **answers(NotFound)}

    @router.get("/client.py", summary="The Python client", responses=replies)
    async def get_client(request: Request) -> Response:
        """One file without dependencies: `curl -O` it and run it."""
        if not (ROOT / "client.py").is_file():
            raise NotFound("The client is not installed on this server.")
        return client.reply(request)

    def add(address: str, file: KeptFile) -> None:
        async def get_file(request: Request) -> Response:
            return file.reply(request)

        router.add_api_route(address, get_file, include_in_schema=False)

    for address, file in files.items():
        add(address, file)
    return router
