"""Draws what colours from the video look like: `python -m benchmarks.appearance_sheet SHEET.webp`.

For each truth clip of TEST_MEDIA, with meshes of 1.5 % noise, and for the demo clip with those of
silhouette: a frame, the mesh through the found view, and the mesh from four sides, unlit. So
docs/images/appearance.webp is made. A second argument names a folder for the textures themselves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from appearance.fit import fit_view
from benchmarks.contact_sheet import write_sheet
from benchmarks.quality_case import bake, dancing_sprout, ignore
from benchmarks.truth import generated, load_truth, truth_names
from benchmarks.unlit_picture import GREY, Picture, drawn, side_view
from meshes.sequence import MeshSequence
from meshes.view import View
from tests.silhouette.measure import media_folder
from video.clip import Clip

PANEL_PX = 150
CAPTION_PX = 20
SIDES = {"front": 0, "right": -90, "back": 180, "left": 90}
"""Azimuths; right and left are the subject's own."""
_DARK = (28, 28, 30)


def main(sheet: Path, textures: Path | None = None) -> None:
    """One row a clip, then the file."""
    rows = [_captions(["video", "found view", *SIDES])]
    for name, clip, meshes in _clips(media_folder()):
        view = fit_view(meshes, clip, ignore).view
        painted = bake(meshes, clip, view).meshes
        rows.append(_row(clip, painted, view))
        if textures:
            assert painted.texture is not None
            suffix = ".png" if painted.texture.media_type == "image/png" else ".jpg"
            (textures / f"{name}{suffix}").write_bytes(painted.texture.image)
        print(name, flush=True)
    write_sheet(np.vstack(rows), sheet)


def _clips(media: Path) -> Iterator[tuple[str, Clip, MeshSequence]]:
    for name in truth_names(media):
        truth = load_truth(media, name)
        yield name, truth.clip, generated(truth.meshes, 0.015)
    clip, given = dancing_sprout()
    yield "dancing_sprout", clip, MeshSequence(given.vertices, given.faces, given.fps)


def _row(clip: Clip, meshes: MeshSequence, view: View) -> Picture:
    middle = len(meshes) // 2
    frame = clip.frames[middle]
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(frame[..., 3]))
    side = min(round(max(width, height) * 1.15), *frame.shape[:2])
    left = int(np.clip(left + width / 2 - side / 2, 0, frame.shape[1] - side))
    top = int(np.clip(top + height / 2 - side / 2, 0, frame.shape[0] - side))
    crop = np.s_[top : top + side, left : left + side]
    panels = [_shrunk(picture[crop]) for picture in (_on_grey(frame), drawn(meshes, middle, view))]
    for azimuth in SIDES.values():
        panels.append(drawn(meshes, middle, side_view(meshes, middle, azimuth, PANEL_PX)))
    return np.hstack([np.ascontiguousarray(panel[..., ::-1]) for panel in panels])


def _on_grey(frame: Picture) -> Picture:
    """An RGBA frame as RGB."""
    alpha = frame[..., 3:] / 255
    return (frame[..., :3] * alpha + np.array(GREY) * (1 - alpha)).astype(np.uint8)


def _shrunk(picture: Picture) -> Picture:
    small = cv2.resize(picture, (PANEL_PX, PANEL_PX), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def _captions(words: list[str]) -> Picture:
    strip = np.full((CAPTION_PX, PANEL_PX * len(words), 3), _DARK, np.uint8)
    for k, word in enumerate(words):
        place, font = (PANEL_PX * k + 6, CAPTION_PX - 6), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(strip, word, place, font, 0.4, GREY, 1, cv2.LINE_AA)
    return strip


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
