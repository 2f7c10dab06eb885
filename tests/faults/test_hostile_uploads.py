"""Hostile zips and meshes are refused; the server stays as large as it was and leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import MakeServer
from tests.faults.processes import peak_rss_mb, reset_peak_rss, rss_mb
from tests.faults.server import Refused
from tests.intake.glb_files import bomb, packed, stride_of_one
from tests.video.test_frames_zip import png, zipped
from tests.video.test_zip_reader import directory_of

MOST_GROWTH_MB = 60.0


def _large_pictures(path: Path) -> None:
    """Sixteen pictures that unpack to 480 MB."""
    content = png(64, 64) + os.urandom(200_000) + bytes(30 << 20)
    zipped(path, {f"{k}.png": content for k in range(16)}, zipfile.ZIP_DEFLATED)


def _huge_sides(path: Path) -> None:
    zipped(path, {f"{k}.png": png(60_000, 60_000) for k in range(16)})


def _segments(path: Path) -> None:
    """JPEGs of nothing but empty segments."""
    content = b"\xff\xd8" + b"\xff\xe1\0\2" * 5_000_000
    zipped(path, {f"{k}.jpg": content for k in range(16)}, zipfile.ZIP_DEFLATED)


ZIPS: dict[str, Callable[[Path], object]] = {
    "a directory hidden by a comment": lambda path: path.write_bytes(
        directory_of(400_000, 65_535, hidden=True)
    ),
    "a long directory": lambda path: path.write_bytes(directory_of(65_535, 0)),
    "large pictures": _large_pictures,
    "huge sides": _huge_sides,
    "segments": _segments,
}


def test_hostile_zips_move_the_server_by_less_than_60_mb(
    make_server: MakeServer, clip: Path, tmp_path: Path
) -> None:
    server = make_server().start()
    server.wait_for(server.submit(clip))
    files = set(server.jobs_dir.rglob("*"))
    processes = server.descendants()
    path = tmp_path / "hostile.zip"
    for name, write in ZIPS.items():
        write(path)
        before = rss_mb(server.pid)
        reset_peak_rss(server.pid)
        with pytest.raises(Refused) as caught:
            server.submit(path)
        assert caught.value.status == 422, name
        assert caught.value.body["code"] == "video_unreadable", name
        assert peak_rss_mb(server.pid) - before < MOST_GROWTH_MB, name
        assert server.descendants() == processes, name
    assert {path for path in server.jobs_dir.rglob("*") if path.is_file()} <= files


CHECK = """
import sys
from pathlib import Path
from errors import InvalidParameter
from intake.glb import check_glb
from tests.faults.processes import peak_rss_mb, reset_peak_rss, rss_mb
before = rss_mb("self")
reset_peak_rss("self")
try:
    check_glb(Path(sys.argv[1]))
except InvalidParameter:
    print(peak_rss_mb("self") - before)
"""

MESHES: dict[str, Callable[[], bytes]] = {
    "nodes times parts": lambda: bomb(1_000, 10_000),
    "a stride of one": lambda: stride_of_one(40_000_000),
    "many values": lambda: packed(b"[" + b"0," * 20_000_000 + b"0]", b""),
    "few values": lambda: packed(b'["' + b"\xf0\x9f\x98\x80" * 12_000_000 + b'"]', b""),
}


@pytest.mark.parametrize("name", MESHES)
def test_hostile_meshes_move_the_process_that_checks_them_by_less_than_60_mb(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "mesh.glb").write_bytes(MESHES[name]())
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path / "mesh.glb")],
        cwd=root, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(done.stdout) < MOST_GROWTH_MB
