"""The page at /, its files, and client.py: files of this repository, text sent compressed.

The files of web/ are served under their own relative names, no others: one route each, and not
starlette's StaticFiles, which answers any address, and a POST to an unknown one with 405.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from api.file_response import RangeResponse
from api.openapi import CLIENT, LINKS, PAGE, answers
from api.responses import accepts_gzip, has_already
from errors import NotFound
from settings import NAME, VERSION

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"
EXAMPLE = ROOT / "examples" / "dancing_sprout.mp4"
"""The clip that the page's example button sends; at /example.mp4."""

SMALLEST = 500
"""Files of fewer bytes are not compressed."""
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".py": "text/x-python; charset=utf-8",
    ".svg": "image/svg+xml",
    ".mp4": "video/mp4",
}


class PageFile(RangeResponse):
    """One of these files, compressed if its type and the client allow it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Compressing all of three.js takes 30 ms of CPU, once per browser: then it is 304."""
        # starlette only looks for the word: `gzip;q=0` and `x-notgzip` hold it too
        wanted = [(b"accept-encoding", b"gzip")] if accepts_gzip(Headers(scope=scope)) else []
        others = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]
        scope = {**scope, "headers": others + wanted}
        if scope["method"] == "HEAD" and self._may_be_compressed:
            self.headers["vary"] = "Accept-Encoding"
            if wanted:
                self.headers["content-encoding"] = "gzip"
                del self.headers["content-length"]  # nobody knows it before the file is compressed
        await GZipMiddleware(super().__call__, SMALLEST, compresslevel=6)(scope, receive, send)

    @property
    def _may_be_compressed(self) -> bool:
        """True if starlette compresses the body of a GET for those who accept it."""
        assert self.stat_result is not None and self.media_type is not None
        return self.stat_result.st_size >= SMALLEST and not self.media_type.startswith("video/")


def _reply(request: Request, path: Path) -> Response:
    headers = {"Cache-Control": "no-cache"}
    found = path.stat()
    file = PageFile(path, 200, headers, MEDIA_TYPES[path.suffix], stat_result=found)
    # weak, because the same tag stands for the compressed form too
    tag = file.headers["etag"] = f"W/{file.headers['etag']}"
    if has_already(request.scope, tag, found.st_mtime):
        return Response(None, 304, {**headers, "ETag": tag, "Vary": "Accept-Encoding"})
    return file


def page_files(web: Path = WEB) -> dict[str, Path]:
    """Address -> file, for every file of web/ with a type in MEDIA_TYPES, and the example."""
    files = {
        f"/{path.relative_to(web).as_posix()}": path
        for path in web.rglob("*")
        if path.suffix in MEDIA_TYPES and path.is_file() and not path.is_symlink()
    }
    if files and EXAMPLE.is_file():
        files["/example.mp4"] = EXAMPLE
    return files


def page_router(files: dict[str, Path]) -> APIRouter:
    """Routes for the page (or, without one, a list of links), its files and the client."""
    router = APIRouter(tags=["page"])
    client = ROOT / "client.py"
    replies = {**(PAGE if "/index.html" in files else LINKS), **answers(keyless=True)}

    @router.get("/", summary="The page", responses=replies, response_class=Response)
    async def page(request: Request) -> Response:
        """The web page; a list of links where it is not installed."""
        if "/index.html" in files:
            return _reply(request, files["/index.html"])
        root = request.scope.get("root_path", "")
        links = {name: f"{root}/{name}" for name in ("docs", "info", "health", "ready", "jobs")}
        return JSONResponse({"name": NAME, "version": VERSION, **links})

    replies = {**CLIENT, **answers(NotFound, keyless=True)}

    @router.get(
        "/client.py", summary="The Python client", responses=replies, response_class=Response
    )
    async def get_client(request: Request) -> Response:
        """One file without dependencies: `curl -O` it and run it."""
        if not client.is_file():
            raise NotFound("The client is not installed on this server.")
        return _reply(request, client)

    async def get_file(request: Request) -> Response:
        return _reply(request, files[request.scope["route"].path])

    for address in files:
        router.add_api_route(address, get_file, include_in_schema=False)
    return router
