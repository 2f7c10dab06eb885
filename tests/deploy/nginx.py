"""The real nginx with deploy/nginx.conf, in the foreground, in front of a real server."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.servers import ROOT, ProcessServer, free_port
from tests.waiting import wait_until

SITE = ROOT / "deploy" / "nginx.conf"
ACCEL_PREFIX = "/_jobs"

MAIN = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    types {{ }}
    default_type application/octet-stream;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


@dataclass(frozen=True)
class Nginx:
    """One process, master and worker in one, so that its CPU time is the total."""

    url: str
    pid: int
    error_log: Path


@contextmanager
def nginx_before(server: ProcessServer, folder: Path, site: str = "") -> Iterator[Nginx]:
    """The shipped site, with other addresses and another folder; or the lines of another one."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("nginx is not installed (apt install nginx-light)")
    folder.mkdir()
    port = free_port()
    text = f"server {{ listen 127.0.0.1:{port}; {site} }}" if site else _site(server, port)
    (folder / "site.conf").write_text(text)
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    process = subprocess.Popen(
        [program, "-p", str(folder), "-e", str(folder / "error.log"), "-c", "nginx.conf"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    error_log = folder / "error.log"
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(url, process, error_log))
        yield Nginx(url, process.pid, error_log)
    finally:
        process.kill()
        process.wait(10)


def _answers(url: str, process: subprocess.Popen[bytes], error_log: Path) -> bool:
    assert process.poll() is None, error_log.read_text()
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def _site(server: ProcessServer, port: int) -> str:
    replaced = {
        "server 127.0.0.1:8000;": f"server {server.url.removeprefix('http://')};",
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "/var/lib/actionmesh/jobs/": f"{server.jobs_dir}/",
    }
    text = SITE.read_text()
    for shipped, ours in replaced.items():
        assert shipped in text, shipped
        text = text.replace(shipped, ours)
    assert not re.search(r"\b80[08]0\b", text.split("upstream", 1)[1]), "an address was overlooked"
    return text
