"""Draws what jobs make of real clips: `python -m benchmarks.contact_sheet SHEET.webp`.

Sends the clips of TEST_MEDIA/davis and TEST_MEDIA/field to a real server. Each tile shows a frame,
its mask, and the mesh from the front and from three quarters. So docs/images/subjects.webp is made.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from client import Client, JobFailed
from tests.servers import process_server

PANEL_PX = 132
CAPTION_PX = 20
COLUMNS = 3
MOST_BYTES = 600_000
_DARK, _LIGHT = (28, 28, 30), (235, 235, 235)
_DIMMED = 0.3

Picture = NDArray[np.uint8]


def main(sheet: Path) -> None:
    """Run the jobs one after another, then write the sheet."""
    media = Path(os.environ["TEST_MEDIA"])
    clips = sorted(
        clip
        for folder in ("davis", "field")
        for clip in (media / folder).iterdir()
        if clip.suffix in (".mp4", ".zip") and not clip.stem.endswith("_masks")
    )
    tiles = []
    with (
        tempfile.TemporaryDirectory(prefix="sheet_") as folder,
        process_server(Path(folder), PIPELINE="silhouette") as server,
    ):
        for clip in clips:
            tiles.append(_tile(Client(server.url), clip, Path(folder) / clip.stem))
            print(clip.stem, flush=True)
    while len(tiles) % COLUMNS:
        tiles.append(np.full_like(tiles[0], _DARK))
    rows = [np.hstack(tiles[k : k + COLUMNS]) for k in range(0, len(tiles), COLUMNS)]
    write_sheet(np.vstack(rows), sheet)


def _tile(client: Client, clip: Path, folder: Path) -> Picture:
    """Four panels in a row and a caption; only the input where the job failed."""
    try:
        job = client.wait(client.submit(clip))
    except JobFailed as failed:
        panels = [_fitted(_first_frame(clip)), _black(), _black(), _black()]
        return _captioned(panels, clip.stem, client.status(failed.job_id))
    client.save(job["job_id"], folder, what="all")
    middle = job["mesh"]["timesteps"] // 2
    panels = np.hsplit(_video_frame(folder / "preview.mp4", middle), 3)
    source = _video_frame(folder / "source.mp4", middle)
    mask = _mask(folder / "masks.zip", middle, source.shape[1::-1])
    dimmed = (source * (_DIMMED + (1 - _DIMMED) * mask[..., None] / 255)).astype(np.uint8)
    left, top, width, height = cv2.boundingRect((mask > 127).astype(np.uint8))
    across, down = left + width // 2, top + height // 2
    pictures = [_square(source, across, down), _square(dimmed, across, down), *panels[1:]]
    return _captioned([_fitted(picture) for picture in pictures], clip.stem, job)


def _square(picture: Picture, across: int, down: int) -> Picture:
    """The largest square of the picture whose middle is nearest to this point."""
    height, width = picture.shape[:2]
    side = min(height, width)
    left = min(max(across - side // 2, 0), width - side)
    top = min(max(down - side // 2, 0), height - side)
    return picture[top : top + side, left : left + side]


def _captioned(panels: list[Picture], name: str, job: dict[str, Any]) -> Picture:
    row = np.hstack(panels)
    caption = np.full((CAPTION_PX, row.shape[1], 3), _DARK, np.uint8)
    codes = [warning["code"] for warning in job.get("warnings", ())]
    shown = [code for code in codes if code in ("low_confidence_segmentation", "tracking_lost")]
    words = " ".join([name, *filter(None, [job.get("error_code")]), *shown])
    place, font = (6, CAPTION_PX - 6), cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(caption, words, place, font, 0.38, _LIGHT, 1, cv2.LINE_AA)
    return np.vstack([caption, row])


def _fitted(picture: Picture) -> Picture:
    """The whole picture in a square panel."""
    height, width = picture.shape[:2]
    scale = PANEL_PX / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    panel = _black()
    top, left = (PANEL_PX - size[1]) // 2, (PANEL_PX - size[0]) // 2
    panel[top : top + size[1], left : left + size[0]] = small
    return panel


def _black() -> Picture:
    return np.zeros((PANEL_PX, PANEL_PX, 3), np.uint8)


def _first_frame(clip: Path) -> Picture:
    """BGR; of a video or a zip of pictures."""
    if clip.suffix != ".zip":
        return _video_frame(clip, 0)
    with zipfile.ZipFile(clip) as pictures:
        content = np.frombuffer(pictures.read(sorted(pictures.namelist())[0]), np.uint8)
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR))


def _video_frame(path: Path, index: int) -> Picture:
    """BGR."""
    reader = cv2.VideoCapture(str(path))
    found, frame = False, _black()
    for _ in range(index + 1):
        found, frame = reader.read()
    reader.release()
    assert found, path.name
    return np.asarray(frame)


def _mask(path: Path, index: int, size: tuple[int, ...]) -> Picture:
    with zipfile.ZipFile(path) as masks:
        content = np.frombuffer(masks.read(sorted(masks.namelist())[index]), np.uint8)
    mask = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    return np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA))


def write_sheet(sheet: Picture, path: Path) -> None:
    """As WebP of at most MOST_BYTES, BGR `(H, W, 3)`."""
    for quality in range(90, 20, -10):
        cv2.imwrite(str(path), sheet, [cv2.IMWRITE_WEBP_QUALITY, quality])
        if path.stat().st_size <= MOST_BYTES:
            break
    print(f"{path}: {path.stat().st_size / 1000:.0f} KB, {sheet.shape[1]} x {sheet.shape[0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
