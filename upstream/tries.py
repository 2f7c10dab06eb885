"""Shapes of the first picture from several seeds: the one that fits its outline best goes on.

Only stage 0 is repeated; anchor.py makes each shape. What a shape leaves on the device is its
latent, half a MB. Called by driver.py, with one seed, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appearance.fit import NotFitted, first_frame_overlap
from errors import NoSubjectFound
from meshes.sequence import MeshSequence
from pipeline import Reporter
from upstream.anchor import Anchor, anchor_from_picture, mesh_thread
from upstream.engine import Engine
from upstream.speedups import Speedups

CANCEL_CHECK_S = 0.1
"""How often a job that waits for its last shapes checks for a cancel."""

Compared = tuple[MeshSequence, float]


@dataclass
class Tries:
    """One attempt's shapes, one for each seed; while the next is made, a thread compares them.

    `alpha` uint8 (H, W) is the first frame's, `fps` the clip's, which all meshes have.
    """

    seeds: Sequence[int]
    alpha: NDArray[np.uint8]
    fps: float
    reporter: Reporter
    _anchors: list[Anchor] = field(default_factory=list, init=False)
    _compared: list[Future[Compared]] = field(default_factory=list, init=False)
    _reported: int = field(default=0, init=False)

    def best_anchor(self, engine: Engine, picture: Any, use: Speedups) -> Anchor:
        """The anchor of the prepared first picture that fits `alpha` best, the first of equals.

        Reports each shape; the shape of a single seed is neither compared nor reported. Raises
        NoSubjectFound if none of the seeds gives a surface.
        """
        nothing: NoSubjectFound | None = None
        with engine.on_device("shape"):
            for number, seed in enumerate(self.seeds):
                tick = partial(self._tick, number)
                try:
                    anchor = anchor_from_picture(engine, picture, seed, tick, use)
                except NoSubjectFound as exc:
                    nothing = exc.with_traceback(None)  # its frames keep tensors alive
                else:
                    self._add(anchor)
        if nothing is not None and not self._anchors:
            raise nothing
        if len(self.seeds) == 1:
            return self._anchors[0]
        return self._best()

    def _tick(self, number: int, step: int, steps: int, message: str = "") -> None:
        """`step` of `steps` of one of the shapes is done. Raises Cancelled."""
        count = len(self.seeds)
        if count > 1:
            self._report()
            shape = f"shape {number + 1} of {count}"
            message = f"{shape}: {message}" if message else shape
        self.reporter.progress("shape", number * steps + step, count * steps, message)

    def _add(self, anchor: Anchor) -> None:
        self._anchors.append(anchor)
        if len(self.seeds) > 1:  # this thread makes the anchor's mesh first
            compare = partial(_compare, anchor, self.alpha, self.fps)
            self._compared.append(mesh_thread.submit(compare))

    def _best(self) -> Anchor:
        while self._reported < len(self._anchors):
            self.reporter.progress("shape", 1, 1, "comparing the shapes")
            wait(self._compared, CANCEL_CHECK_S)
            self._report()
        overlaps = [compared.result()[1] for compared in self._compared]
        return self._anchors[int(np.argmax(overlaps))]

    def _report(self) -> None:
        """The shapes that were compared since the last call."""
        for compared in self._compared[self._reported :]:
            if not compared.done():
                return
            mesh, outline = compared.result()
            self.reporter.tried(mesh, self._anchors[self._reported].seed, outline)
            self._reported += 1


def _compare(anchor: Anchor, alpha: NDArray[np.uint8], fps: float) -> Compared:
    """The anchor's mesh as one timestep, and the overlap of its outline with `alpha`."""
    mesh = anchor.mesh.result()
    vertices = np.asarray(mesh.vertices, dtype=np.float32)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int32)
    try:
        overlap = first_frame_overlap(vertices, faces, alpha)
    except NotFitted:
        overlap = 0.0
    return MeshSequence(vertices[None], faces, fps), overlap
