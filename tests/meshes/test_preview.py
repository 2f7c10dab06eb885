"""The videos have the right frames, rate and size, and a failure leaves no file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.truth import load_truth
from meshes.camera import Camera
from meshes.external_tools import ToolFailed
from meshes.normals import vertex_normals
from meshes.preview import PANEL_PX, write_preview, write_source_video
from meshes.sequence import MeshSequence, Texture
from tests.meshes.animal_in_view import animal_in_view
from tests.meshes.walking_animal import walking_animal
from video.cores import in_order, use_cores


def _frames(count: int, height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    """A red disc that goes from left to right, cut out or on blue."""
    y, x = np.mgrid[:height, :width]
    frames = np.zeros((count, height, width, channels), np.uint8)
    for k, frame in enumerate(frames):
        middle = width * (k + 1) / (count + 1)
        disc = np.hypot(x - middle, y - height / 2) < min(width, height) / 5
        frame[..., :3] = np.where(disc[..., None], (210, 40, 40), (30, 40, 200))
        if channels == 4:
            frame[..., 3] = disc * 255
    return frames


def _ffmpeg(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", *arguments]
    return subprocess.run(command, capture_output=True, timeout=60)


def _read(path: Path, *options: str) -> NDArray[np.uint8]:
    """The decoded pictures, RGB `(T, H, W, 3)`: exactly the frames that are in the file."""
    output = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    decoded = _ffmpeg(*options, "-i", str(path), *output)
    assert decoded.returncode == 0, decoded.stderr
    width, height = (int(side) for side in re.findall(r", (\d+)x(\d+)", _stream_line(path))[0])
    return np.frombuffer(decoded.stdout, np.uint8).reshape(-1, height, width, 3)


def _stream_line(path: Path) -> str:
    """ffmpeg's line about the video: `Video: h264 (High) ..., 1536x512, ..., 7.49 fps, ...`."""
    stderr = _ffmpeg("-i", str(path)).stderr.decode()
    return next(line for line in stderr.splitlines() if "Video:" in line)


def _fps(path: Path) -> float:
    return float(re.findall(r"([\d.]+) fps", _stream_line(path))[0])


def _duration_s(path: Path) -> float:
    stderr = _ffmpeg("-i", str(path)).stderr.decode()
    hours, minutes, seconds = re.findall(r"Duration: (\d+):(\d+):([\d.]+)", stderr)[0]
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _moov_comes_first(path: Path) -> bool:
    content = path.read_bytes()
    return content.index(b"moov") < content.index(b"mdat")


def _write_preview(
    folder: Path, sequence: MeshSequence, frames: NDArray[np.uint8], **options: Any
) -> None:
    """`write_preview` into `folder`, under the names that a job uses."""
    video, poster = folder / "preview.mp4", folder / "poster.webp"
    write_preview(sequence, vertex_normals(sequence), frames, video, poster, **options)


class Silhouettes:
    """A tiny renderer that draws projected vertices: the renderer is a parameter."""

    def __init__(self, sequence: MeshSequence) -> None:
        pass

    def render(
        self,
        vertices: NDArray[np.float32],
        normals: NDArray[np.float32],
        cameras: Sequence[Camera],
    ) -> list[NDArray[np.uint8]]:
        pictures = []
        for camera in cameras:
            picture = np.full((camera.size_px, camera.size_px, 3), 240, np.uint8)
            x, y = camera.project(vertices).astype(int).T
            picture[y, x] = (20, 120, 90)
            pictures.append(picture)
        return pictures


def test_the_preview_shows_input_front_and_three_quarter_at_the_true_rate(tmp_path: Path) -> None:
    sequence = replace(walking_animal(5, rings=40), fps=30000 / 1001 / 4)
    steps: list[tuple[int, int]] = []
    _write_preview(
        tmp_path, sequence, _frames(5, 90, 160), on_progress=lambda *step: steps.append(step)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["poster.webp", "preview.mp4"]
    assert steps == [(k, 5) for k in range(1, 6)]
    pictures = _read(tmp_path / "preview.mp4")
    assert pictures.shape == (5, PANEL_PX, 3 * PANEL_PX, 3)
    assert _fps(tmp_path / "preview.mp4") == pytest.approx(sequence.fps, abs=0.01)
    assert _duration_s(tmp_path / "preview.mp4") == pytest.approx(5 / sequence.fps, abs=0.02)
    line = _stream_line(tmp_path / "preview.mp4")
    assert "h264 (High)" in line and "yuv420p(tv, bt709" in line
    assert _moov_comes_first(tmp_path / "preview.mp4")
    for left in range(0, 3 * PANEL_PX, PANEL_PX):
        panel = pictures[:, :, left : left + PANEL_PX].astype(int)
        assert np.abs(panel[0] - panel[3]).max() > 40, "the panel does not move"
        assert panel[:, 4, 4].min() > 230, "its corner is dark"
        assert (panel.min(axis=(0, 3)) < 160).any(), "it is empty"
    poster: NDArray[np.uint8] | None = cv2.imdecode(
        np.frombuffer((tmp_path / "poster.webp").read_bytes(), np.uint8), cv2.IMREAD_COLOR
    )
    assert poster is not None and poster.shape == (PANEL_PX, 3 * PANEL_PX, 3)
    nearest = min(np.abs(poster[..., ::-1].astype(int) - picture).mean() for picture in pictures)
    assert nearest < 3, "the poster is none of the frames, or has other colours"


def test_rgba_frames_show_the_subject_as_large_as_the_mesh(tmp_path: Path) -> None:
    sequence = walking_animal(2, rings=12, kind="plain")
    frames = _frames(2, 300, 300, channels=4)
    frames[1] = frames[0]
    _write_preview(tmp_path, sequence, frames, make_renderer=Silhouettes)
    pictures = _read(tmp_path / "preview.mp4")
    panel = pictures[0, :, :PANEL_PX].astype(int)
    red = (panel[..., 0] > 180) & (panel[..., 1] < 80)
    rows = np.flatnonzero(red.any(axis=1))
    assert len(rows) == pytest.approx(0.82 * PANEL_PX, abs=4)
    assert (panel[..., 2] - panel[..., 0]).max() < 30, "hidden blue is visible"


class Outlines:
    """Draws every triangle black on white: the panel is the mesh's outline alone."""

    def __init__(self, sequence: MeshSequence) -> None:
        self._faces = sequence.faces

    def render(
        self,
        vertices: NDArray[np.float32],
        normals: NDArray[np.float32],
        cameras: Sequence[Camera],
    ) -> list[NDArray[np.uint8]]:
        size = cameras[0].size_px
        pictures = [np.full((size, size, 3), 255, np.uint8) for _ in cameras]
        for picture, camera in zip(pictures, cameras, strict=True):
            _fill(picture, camera.project(vertices) - 0.5, self._faces)
        return pictures


def _fill(picture: NDArray[np.uint8], pixels: NDArray[Any], faces: NDArray[np.int32]) -> None:
    for corners in np.round(pixels[faces] * 16).astype(np.int32):
        cv2.fillConvexPoly(picture, corners, (0, 0, 0), shift=4)


def _outlines_overlap(
    folder: Path, sequence: MeshSequence, alpha: NDArray[np.bool_], channels: int
) -> list[float]:
    """IoU, in each timestep, of the first two panels; the input is black on white or cut out."""
    frames = np.repeat(np.where(alpha, 0, 255)[..., None], channels, axis=3).astype(np.uint8)
    if channels == 4:
        frames[..., 3] = 255 - frames[..., 3]
    _write_preview(folder, sequence, frames, make_renderer=Outlines)
    dark = _read(folder / "preview.mp4").min(axis=3) < 128
    one, two = dark[:, :, :PANEL_PX], dark[:, :, PANEL_PX : 2 * PANEL_PX]
    both = np.count_nonzero(one & two, axis=(1, 2))
    return [float(value) for value in both / np.count_nonzero(one | two, axis=(1, 2))]


@pytest.mark.parametrize("channels", [3, 4], ids=["whole frame", "cut out"])
@pytest.mark.parametrize("is_moving", [False, True], ids=["constant", "moving"])
def test_the_second_panel_coincides_with_the_input(
    tmp_path: Path, is_moving: bool, channels: int
) -> None:
    sequence = animal_in_view(3, rings=30, kind="plain", is_moving=is_moving)
    assert sequence.view is not None
    alpha = np.zeros((3, 180, 240), bool)  # frames smaller than the source
    view = sequence.view.scaled_to(240, 180)
    for t, vertices in enumerate(sequence.vertices):
        picture = np.full((180, 240, 3), 255, np.uint8)
        _fill(picture, view.project(vertices, t) - 0.5, sequence.faces)
        alpha[t] = picture[..., 0] == 0
    overlaps = _outlines_overlap(tmp_path, sequence, alpha, channels)
    assert min(overlaps) >= 0.95, overlaps


@pytest.mark.parametrize("channels", [3, 4], ids=["whole frame", "cut out"])
@pytest.mark.parametrize("name", ["fox_run", "robot_dance"])
def test_with_the_true_view_the_second_panel_coincides_with_a_real_input(
    tmp_path: Path, test_media: Path, name: str, channels: int
) -> None:
    truth = load_truth(test_media, name)
    few = slice(0, 16, 5)
    view = replace(truth.view, eyes=truth.view.eyes[few])
    meshes = truth.meshes
    sequence = MeshSequence(meshes.vertices[few], meshes.faces, meshes.fps, view=view)
    alpha = truth.clip.frames[few][..., 3] > 127
    overlaps = _outlines_overlap(tmp_path, sequence, alpha, channels)
    assert min(overlaps) >= 0.95, overlaps


@pytest.mark.parametrize("is_orthographic", [True, False], ids=["flat", "inside the mesh"])
def test_a_view_that_cannot_be_drawn_leaves_the_front_in_the_second_panel(
    tmp_path: Path, is_orthographic: bool
) -> None:
    sequence = animal_in_view(2, kind="plain", is_orthographic=is_orthographic)
    if not is_orthographic:
        assert sequence.view
        inside = replace(sequence.view, eyes=np.tile(sequence.view.centre, (2, 1)))
        sequence = replace(sequence, view=inside)
    for name, meshes in {"with": sequence, "without": replace(sequence, view=None)}.items():
        (tmp_path / name).mkdir()
        _write_preview(tmp_path / name, meshes, _frames(2, 64, 64), make_renderer=Outlines)
    shown, wanted = (_read(tmp_path / name / "preview.mp4") for name in ("with", "without"))
    assert np.array_equal(shown, wanted)


@pytest.mark.parametrize("kind", ["plain", "coloured"])
def test_one_timestep_of_any_kind_gives_a_preview(tmp_path: Path, kind: str) -> None:
    sequence = walking_animal(1, rings=30, kind=kind)
    video, poster = tmp_path / "preview.mp4", tmp_path / "poster.webp"
    write_preview(
        sequence, vertex_normals(sequence), _frames(1, 64, 48), video, poster, panel_px=128
    )
    assert _read(video).shape == (1, 128, 384, 3)


def test_a_failing_encoder_raises_a_typed_error_and_leaves_nothing(tmp_path: Path) -> None:
    sequence = walking_animal(2, rings=12)
    out = tmp_path / "out"
    out.mkdir()

    def preview(launch: Any, timeout_s: float = 60) -> None:
        _write_preview(
            out, sequence, _frames(2, 32, 32), panel_px=64, launch=launch, timeout_s=timeout_s
        )

    def wrong_option(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([command[0], "-no_such_option", *command[1:]], **options)

    def hangs(_: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["sleep", "60"], **options)

    def missing(_: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([str(tmp_path / "no-ffmpeg")], **options)

    with pytest.raises(ToolFailed, match="ffmpeg failed") as failure:
        preview(wrong_option)
    assert "no_such_option" in failure.value.log
    with pytest.raises(ToolFailed, match=r"did not finish in 0\.2 s"):
        preview(hangs, timeout_s=0.2)
    with pytest.raises(ToolFailed, match="could not be started"):
        preview(missing)
    assert list(out.iterdir()) == []


def test_a_texture_that_cannot_be_decoded_is_a_failed_preview(tmp_path: Path) -> None:
    sequence = walking_animal(2, rings=12)
    assert sequence.texture
    truncated = Texture(sequence.texture.image[:20], "image/jpeg", sequence.texture.uv)
    sequence = replace(sequence, texture=truncated)
    with pytest.raises(ToolFailed, match="could not be drawn"):
        _write_preview(tmp_path, sequence, _frames(2, 32, 32))
    assert list(tmp_path.iterdir()) == []


def test_an_exception_of_on_progress_leaves_no_file(tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def give_up(step: int, steps: int) -> None:
        raise Cancelled

    sequence = walking_animal(2, rings=12)
    with pytest.raises(Cancelled):
        _write_preview(tmp_path, sequence, _frames(2, 32, 32), panel_px=64, on_progress=give_up)
    assert list(tmp_path.iterdir()) == []


def test_arrays_that_do_not_match_are_refused(tmp_path: Path) -> None:
    sequence = walking_animal(3, rings=12)
    files = tmp_path / "preview.mp4", tmp_path / "poster.webp"
    normals = vertex_normals(sequence)
    with pytest.raises(ValueError, match="3 timesteps need as many frames"):
        write_preview(sequence, normals, _frames(2, 32, 32), *files)
    with pytest.raises(ValueError, match="even size"):
        write_preview(sequence, normals, _frames(3, 32, 32), *files, panel_px=65)
    with pytest.raises(ValueError, match="frames must be uint8"):
        write_preview(sequence, normals, _frames(3, 32, 32)[0], *files)
    sequence.vertices[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        write_preview(sequence, normals, _frames(3, 32, 32), *files)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rate", [8.0, 24000 / 1001, 0.5])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_source_video_is_frame_exact(tmp_path: Path, channels: int, rate: float) -> None:
    frames = _frames(16, 120, 200, channels)
    write_source_video(frames, rate, tmp_path / "source.mp4")
    pictures = _read(tmp_path / "source.mp4")
    assert pictures.shape == (16, 120, 200, 3)
    assert _fps(tmp_path / "source.mp4") == pytest.approx(rate, abs=0.01)
    assert _moov_comes_first(tmp_path / "source.mp4")
    assert "h264 (High)" in _stream_line(tmp_path / "source.mp4")
    wanted = frames[..., :3].astype(float)
    if channels == 4:
        cover = frames[..., 3:] / 255
        wanted = wanted * cover + 236 * (1 - cover)
    for k in range(16):
        errors = np.abs(pictures - wanted[k]).mean(axis=(1, 2, 3))
        assert errors.argmin() == k and errors[k] < 4


@pytest.mark.parametrize(
    ("shape", "size"),
    [((33, 47), (34, 48)), ((1500, 2001), (960, 1280)), ((3, 2), (4, 2)), ((2, 1700), (2, 1280))],
)
def test_odd_and_large_frames_get_a_size_that_plays(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    write_source_video(_frames(2, *shape), 8, tmp_path / "source.mp4")
    pictures = _read(tmp_path / "source.mp4")
    assert pictures.shape[:3] == (2, *size)


def test_a_page_can_seek_in_the_source_video(tmp_path: Path) -> None:
    write_source_video(_frames(31, 64, 64), 8, tmp_path / "source.mp4")
    keyframes = _read(tmp_path / "source.mp4", "-skip_frame", "nokey")
    assert len(keyframes) == 8  # 0, 4 ... 28


def test_wrong_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are no frames"):
        write_source_video(np.zeros((0, 8, 8, 3), np.uint8), 8, tmp_path / "source.mp4")


def test_several_cores_draw_the_same_files(tmp_path: Path) -> None:
    animal = walking_animal(5, 12)
    files = {}
    for count in (1, 3):
        use_cores(count)
        out = tmp_path / f"{count}.mp4", tmp_path / f"{count}.webp"
        arguments = animal, vertex_normals(animal), _frames(5, 40, 60, 4), *out
        write_preview(*arguments, panel_px=96, in_order=in_order)
        files[count] = [path.read_bytes() for path in out]
    use_cores(1)
    assert files[1] == files[3]
