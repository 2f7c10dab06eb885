"""Measures how well a mesh sequence matches its clip, and loads the clips for that.

The clips are in the folder TEST_MEDIA: 16 frames with alpha in clips/*_alpha.zip, and videos of the
same subject on other backgrounds, with that alpha as the true mask. `python -m
tests.silhouette.measure CLIP MODE` prints a report as JSON; benchmarks/silhouette.py makes a table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.sequence import MeshSequence
from pipeline import MODES, Mode
from silhouette.inflation import is_closed, volume
from silhouette.pipeline import SilhouettePipeline
from subject.find import find_subject
from video.clip import Clip, SourceFacts

_FACING = 0.2
"""Cosine to the viewer above which a triangle counts when turned ones are counted."""
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class LabelledClip:
    """A clip, and the subject's true masks `(T, H, W)`."""

    name: str
    clip: Clip
    truth: NDArray[np.bool_]


@dataclass(frozen=True)
class Measurements:
    """How well a mesh sequence matches a clip.

    `iou` of the projected mesh and the true masks; `photo` the mean absolute difference (0..255)
    between the texture at the front vertices and the frame where they are; `turned` the largest
    share of triangles in a frame that face the other way than in most frames; `degenerate` those
    smaller than 1/1000 of the median.
    """

    iou_mean: float
    iou_worst: float
    photo: float
    turned: float
    degenerate: int
    watertight: bool
    volume: float
    jitter: float
    vertices: int
    texture_kb: float


class ReportLog:
    """A Reporter that keeps its reports."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self.warnings: list[str] = []
        self.facts: dict[str, dict[str, Any]] = {}
        self.subjects: list[Clip] = []
        self.anchors: list[MeshSequence] = []
        self._last = time.process_time()

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        """Adds the CPU time since the last report to the stage."""
        now = time.process_time()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now

    def warning(self, code: str, message: str, **facts: Any) -> None:
        """Keeps the code, and its facts."""
        self.warnings.append(code)
        self.facts[code] = facts

    def subject(
        self, clip: Clip, method: str | None = None, confidence: float | None = None
    ) -> None:
        """Keeps the clip with alpha."""
        self.subjects.append(clip)

    def tried(self, mesh: MeshSequence, seed: int, outline: float) -> None:
        """A silhouette makes one shape."""
        raise AssertionError(f"{mesh} was tried with {seed}: {outline}")

    def anchor(self, mesh: MeshSequence, seed: int | None = None) -> None:
        """Keeps the mesh."""
        self.anchors.append(mesh)


def as_clip(frames: NDArray[np.uint8], fps: float = 12.0) -> Clip:
    """A clip of frames that were all used."""
    count, height, width = frames.shape[:3]
    return Clip(frames, fps, SourceFacts(width, height, count, fps, tuple(range(count))))


def sample_names(media: Path) -> list[str]:
    """For each subject: with alpha, 31 frames forth and back, and in front of every background."""
    names = []
    for archive in sorted((media / "clips").glob("*_alpha.zip")):
        subject = archive.stem.removesuffix("_alpha")
        names += [f"{subject} alpha", f"{subject} alpha 31"]
        for video in sorted(archive.parent.glob(f"{subject}_*.mp4")):
            names.append(f"{subject} {video.stem.removeprefix(f'{subject}_')}")
    return names


def load_sample(media: Path, name: str) -> LabelledClip:
    """One clip by the name that `sample_names` gives it."""
    subject, background, *more = name.split()
    rgba = _read_archive(media / "clips" / f"{subject}_alpha.zip")
    truth = rgba[..., 3] > 127
    if background == "alpha":
        order = [*range(16), *range(14, -1, -1)] if more else list(range(16))
        return LabelledClip(name, as_clip(rgba[order]), truth[order])
    frames = _read_video(media / "clips" / f"{subject}_{background}.mp4")
    return LabelledClip(name, as_clip(frames), truth[: len(frames)])


def _read_archive(path: Path) -> NDArray[np.uint8]:
    """The PNG frames of a zip as RGBA, in the order of their names."""
    frames = []
    with zipfile.ZipFile(path) as file:
        for name in sorted(name for name in file.namelist() if name.endswith(".png")):
            encoded = np.frombuffer(file.read(name), np.uint8)
            decoded = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
            frames.append(cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA))
    return np.stack(frames)


def _read_video(path: Path) -> NDArray[np.uint8]:
    reader = cv2.VideoCapture(str(path))
    frames = []
    while True:
        more, frame = reader.read()
        if not more:
            break
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    reader.release()
    return np.stack(frames)


def measure(mesh: MeshSequence, sample: LabelledClip) -> Measurements:
    """Compare a mesh sequence with the clip it was made from.

    One similarity for all frames maps the mesh back to the picture's scale and position.
    """
    xy = mesh.vertices[:, :, :2].astype(np.float64) * (1, -1)
    scale, shift = _register(xy, mesh.faces, sample.truth)
    pixels = xy * scale + shift
    overlaps = [
        _iou(_draw(p, mesh.faces, mask.shape), mask)
        for p, mask in zip(pixels, sample.truth, strict=True)
    ]
    areas = np.stack([_doubled_areas(vertices, mesh.faces) for vertices in mesh.vertices])
    facing = np.stack([_doubled_areas_seen(p, mesh.faces) for p in pixels]) / scale**2
    usual = np.sign(np.median(facing / areas, axis=0))
    counted = np.abs(np.median(facing / areas, axis=0)) > _FACING
    turned = ((np.sign(facing) != usual) & counted).mean(axis=1)
    return Measurements(
        iou_mean=float(np.mean(overlaps)),
        iou_worst=float(np.min(overlaps)),
        photo=_photo_error(mesh, pixels, sample),
        turned=float(turned.max()),
        degenerate=int((areas < 1e-3 * np.median(areas)).sum(axis=1).max()),
        watertight=is_closed(mesh.faces),
        volume=min(volume(vertices, mesh.faces) for vertices in mesh.vertices),
        jitter=_jitter(mesh),
        vertices=mesh.vertices.shape[1],
        texture_kb=len(mesh.texture.image) / 1000 if mesh.texture else 0.0,
    )


def _register(
    xy: NDArray[np.float64], faces: NDArray[np.int32], truth: NDArray[np.bool_]
) -> tuple[float, NDArray[np.float64]]:
    """Scale and shift to pixels: bounding boxes first, then what overlaps best."""
    boxes = np.array(
        [cv2.boundingRect(mask.astype(np.uint8)) for mask in truth if mask.any()], float
    )
    low, high = boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0) - 1
    mesh_low, mesh_high = xy.min(axis=(0, 1)), xy.max(axis=(0, 1))
    scale = float((high - low).max() / (mesh_high - mesh_low)[(high - low).argmax()])
    shift = (low + high) / 2 - scale * (mesh_low + mesh_high) / 2
    few = range(0, len(truth), 3)
    drawn = [_draw(xy[t] * scale + shift, faces, truth[t].shape) for t in few]
    middle = (low + high) / 2

    def score(nudge: NDArray[np.float64]) -> float:
        """Overlap after growing by nudge[0] about the middle and moving by the rest."""
        grow = np.column_stack([nudge[0] * np.eye(2), (1 - nudge[0]) * middle + nudge[1:]])
        masks = [
            cv2.warpAffine(mask.astype(np.uint8), grow, mask.shape[::-1]) > 0 for mask in drawn
        ]
        return float(np.mean([_iou(mask, truth[t]) for mask, t in zip(masks, few, strict=True)]))

    best, step = np.array([1.0, 0.0, 0.0]), np.array([0.04, 16.0, 16.0])
    top = score(best)
    for _ in range(8):
        for change in (*np.eye(3), *-np.eye(3)) * step * 2:
            guess = best + change
            if (value := score(guess)) > top:
                best, top = guess, value
        step /= 2
    return scale * float(best[0]), best[0] * shift + (1 - best[0]) * middle + best[1:]


def _draw(
    pixels: NDArray[np.float64], faces: NDArray[np.int32], shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """The triangles that face the viewer, one by one, to a sixteenth of a pixel."""
    corners = pixels[faces]
    front = _doubled_areas_seen(pixels, faces) < 0
    drawn = np.zeros(shape, np.uint8)
    for corner in np.round(corners[front] * 2**_SUBPIXEL_BITS).astype(np.int32):
        cv2.fillConvexPoly(drawn, corner, 1, shift=_SUBPIXEL_BITS)
    out: NDArray[np.bool_] = drawn > 0
    return out


def _iou(mesh: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    return np.count_nonzero(mesh & mask) / max(int(np.count_nonzero(mesh | mask)), 1)


def _photo_error(mesh: MeshSequence, pixels: NDArray[np.float64], sample: LabelledClip) -> float:
    """Difference of the front vertices' colours between the texture and each frame."""
    if mesh.texture is None:
        return float("nan")
    encoded = np.frombuffer(mesh.texture.image, np.uint8)
    picture = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    height, width = picture.shape[:2]
    expected = _look_up(picture, mesh.texture.uv * (width, height) - 0.5)
    front = np.unique(mesh.faces[_doubled_areas_seen(pixels[0], mesh.faces) < 0])
    errors = []
    for frame, mask, where in zip(sample.clip.frames, sample.truth, pixels, strict=True):
        inside = _look_up(mask.astype(np.float32), where[front]) > 0.99
        if inside.any():
            found = _look_up(np.ascontiguousarray(frame[..., :3]), where[front])
            errors.append(float(np.abs(found - expected[front])[inside].mean()))
    return float(np.mean(errors)) if errors else float("nan")


def _look_up(image: NDArray[np.generic], where: NDArray[np.floating]) -> NDArray[np.float64]:
    points = where.astype(np.float32)
    out: NDArray[np.float64] = cv2.remap(
        image, points[None, :, 0], points[None, :, 1], cv2.INTER_LINEAR
    )[0].astype(np.float64)
    return out


def _doubled_areas(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float64]:
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    out: NDArray[np.float64] = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return out


def _doubled_areas_seen(
    pixels: NDArray[np.float64], faces: NDArray[np.int32]
) -> NDArray[np.float64]:
    a, b, c = (pixels[faces[:, k]] for k in range(3))
    u, v = b - a, c - a
    out: NDArray[np.float64] = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    return out


def _jitter(mesh: MeshSequence) -> float:
    """Mean second difference over time in thousandths of the clip's bounding diagonal."""
    if len(mesh) < 3:
        return 0.0
    v = mesh.vertices.astype(np.float64)
    diagonal = np.linalg.norm(v.max(axis=(0, 1)) - v.min(axis=(0, 1)))
    return float(1000 * np.linalg.norm(np.diff(v, 2, axis=0), axis=2).mean() / diagonal)


def run_one(sample: LabelledClip, mode: Mode) -> tuple[MeshSequence, ReportLog, float]:
    """The mesh, what was reported, and CPU seconds."""
    notes = ReportLog()
    start = time.process_time()
    clip = find_subject(sample.clip, None, notes).clip
    mesh = SilhouettePipeline().animate(clip, mode, 44, notes)
    return mesh, notes, time.process_time() - start


@dataclass(frozen=True)
class Report:
    """One clip in one mode. `cpu_s` on one core; `rss_mb` the peak of the process that ran it."""

    measured: Measurements
    cpu_s: float
    rss_mb: float
    stages: dict[str, float]
    warnings: list[str]


def report_alone(name: str, mode: Mode) -> Report:
    """Run one clip in its own process, on one core, so that time and memory are its own."""
    one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "tests.silhouette.measure", name, mode],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, **one_core},
        stdout=subprocess.PIPE,
        check=True,
    )
    record = json.loads(done.stdout)
    return Report(**{**record, "measured": Measurements(**record["measured"])})


def media_folder() -> Path:
    """The folder of the clips."""
    if not os.environ.get("TEST_MEDIA"):
        sys.exit("TEST_MEDIA is not set: the folder that holds clips/")
    return Path(os.environ["TEST_MEDIA"])


def _peak_rss_mb() -> float:
    """Of this program. `ru_maxrss` would also count the process that started it, until exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main(name: str, mode: str) -> None:
    """Print one report."""
    cv2.setNumThreads(1)
    wanted = load_sample(media_folder(), name)
    mesh, notes, cpu_s = run_one(wanted, next(known for known in MODES if known == mode))
    rss_mb = _peak_rss_mb()
    measured = measure(mesh, wanted)
    print(json.dumps(asdict(Report(measured, cpu_s, rss_mb, notes.stages, notes.warnings))))


if __name__ == "__main__":
    main(*sys.argv[1:])
