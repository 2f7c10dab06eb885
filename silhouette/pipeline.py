"""The CPU pipeline: inflate the subject's outline in one frame, track it in the others.

Depth is invented: the outline is inflated and the back mirrors the front, so the mesh looks right
from the front and up to about forty degrees from it; a limb in front of the body is not separated
from it. No weights, no GPU. subject/ finds the subject before. child/pipelines.py builds it; it
implements pipeline.Pipeline.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from errors import ModeUnavailable, NoSubjectFound
from meshes.sequence import MeshSequence
from pipeline import SILHOUETTE, Mode, Reporter, SilhouettePreset
from silhouette.crop import CroppedClip, crop_to_subject
from silhouette.frame_fit import lost_frames, surface_overlaps
from silhouette.inflation import inflate, volume
from silhouette.placement import onto_source, placed_in_front
from silhouette.reference_frame import MOST_FRAMES, choose_reference
from silhouette.surface_motion import move_surface, triangle_areas
from silhouette.texture import frame_textures, make_texture
from silhouette.tracking import Track, Tracker
from silhouette.tracking_frames import TrackingFrames
from silhouette.triangulation import Mesh
from video.clip import Clip


class SilhouettePipeline:
    """Implements pipeline.Pipeline with numpy, scipy and OpenCV."""

    name = "silhouette"
    needs_alpha = True
    shares = {"background": 0.19, "shape": 0.25, "motion": 0.42, "decoding": 0.14}

    def load(self, reporter: Reporter) -> None:
        reporter.progress("loading", 1, 1, "nothing to load")

    def animate(
        self,
        clip: Clip,
        mode: Mode,
        seed: int,  # noqa: ARG002 - nothing here is random
        reporter: Reporter,
        mesh: Path | None = None,
        faces: int | None = None,
        tries: int = 1,  # noqa: ARG002 - as seed
    ) -> MeshSequence:
        """A closed mesh of fixed topology for every frame of a clip with alpha.

        Raises NoSubjectFound, ModeUnavailable, and ValueError for a clip without alpha.
        """
        if not clip.has_alpha:
            raise ValueError("the silhouette pipeline needs frames with alpha")
        if mesh is not None:
            raise ModeUnavailable(
                "The silhouette pipeline makes its own mesh and cannot animate yours.",
                hint="Leave `mesh` out, or ask a server that runs the ActionMesh pipeline.",
            )
        preset = SILHOUETTE[mode]
        cropped = crop_to_subject(clip.frames, preset.crop_px)

        steps = MOST_FRAMES + preset.reference_candidates
        tick = _ticker(reporter, "shape", "choosing the reference frame", steps)
        reference = choose_reference(cropped, preset.reference_candidates, tick)
        image, alpha = cropped.images[reference], cropped.alphas[reference]
        # a closed surface of V vertices has about 2 V triangles (Euler)
        inflated = inflate(alpha, faces // 2 if faces else preset.vertices)
        if inflated is None:
            raise _too_small()
        texture = make_texture(image, alpha, inflated.points[:, :2])
        still = onto_source(cropped, inflated.points[None], [reference])
        reporter.anchor(replace(placed_in_front(still, inflated, texture, clip), view=None))

        track, control_mesh, frames = _track(cropped, reference, preset, reporter)
        tick = _ticker(reporter, "decoding", "lifting the surface", 3 * len(clip))
        motion = move_surface(inflated, control_mesh, track, reference, tick)
        overlaps = surface_overlaps(frames, inflated, motion, tick)
        _warn_of_lost_frames(lost_frames(overlaps, reference), len(clip), reporter)
        own = frame_textures(cropped, inflated, motion, reference, overlaps, tick)
        placed = onto_source(cropped, motion, range(len(clip)))
        meshes = placed_in_front(placed, inflated, texture, clip)
        return _check_volumes(replace(meshes, frame_textures=own))


def _track(
    cropped: CroppedClip, reference: int, preset: SilhouettePreset, reporter: Reporter
) -> tuple[Track, Mesh, TrackingFrames]:
    """The control mesh in every frame, itself, and the frames it was tracked in."""
    tick = _ticker(reporter, "motion", "following the subject", 3 * len(cropped.images))
    frames = TrackingFrames.from_clip(cropped, tick)
    tracker = Tracker(frames, reference, preset.control_nodes, frames.flow, preset.reanchor)
    if not len(tracker.control_mesh.triangles):
        raise _too_small()
    return tracker.run(tick), tracker.control_mesh, frames


def _ticker(reporter: Reporter, stage: str, message: str, steps: int) -> Callable[[], None]:
    """A callable that reports one more step each time, never more than there are."""
    done = itertools.count(1)
    return lambda: reporter.progress(stage, min(next(done), steps), steps, message)


def _too_small() -> NoSubjectFound:
    return NoSubjectFound("The subject found is too thin, or in too many small parts.")


def _warn_of_lost_frames(lost: list[int], count: int, reporter: Reporter) -> None:
    if lost:
        reporter.warning(
            "tracking_lost",
            f"In {len(lost)} of {count} frames the mesh does not cover the subject well: it may "
            "have turned, its limbs may have crossed, or its outline may be wrong there "
            f"(frames {', '.join(map(str, lost))}, counted from 0).",
            frames=lost,
        )


def _check_volumes(mesh: MeshSequence) -> MeshSequence:
    """Raise NoSubjectFound unless every timestep has a volume and no empty triangle."""
    for vertices in mesh.vertices:
        if volume(vertices, mesh.faces) <= 0 or triangle_areas(vertices, mesh.faces).min() <= 0:
            raise _too_small()
    return mesh
