"""How a clip moves: dense flow between neighbouring frames, the camera's motion, and what moves
against it. Called by two_looks.py and motion_grabcut.py; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from subject.plain_background import border_strip
from video.cores import in_order
from video.fields import Field, gradient, warp
from video.flow import dense_flow, fast_method
from video.sizes import flow_size

_BORDER_SHARE = 0.10
"""The strip that shows how the camera moves."""
_VOTERS = 2
"""Frames on each side that vote. The flow is wrong where things hide each other, so few."""
_OWN_VOTE = 1.5
"""A frame's own vote; that of a frame k away is 1/k."""

Affine = NDArray[np.floating]


@dataclass(frozen=True)
class Scene:
    """The clip at working size: pictures, flows to the next and to the previous frame, and the
    camera's motion from each frame to the next (3 x 3, affine). `grid` holds pixel positions."""

    images: list[NDArray[np.uint8]]
    forward: list[Field]
    backward: list[Field]
    camera: list[Affine]
    grid: Field


def measure_scene(images: list[NDArray[np.uint8]], tick: Callable[[int], None]) -> Scene:
    """The flows between neighbours at `flow_size`; `tick` gets the frames done."""
    size = flow_size(*images[0].shape[1::-1])
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in small]
    method = fast_method()
    grid = np.dstack(np.meshgrid(np.arange(size[0]), np.arange(size[1]))).astype(np.float32)

    def measure(t: int) -> tuple[Field, Field, Affine]:
        one, two = greys[t], greys[t + 1]
        there, back = dense_flow(method, one, two), dense_flow(method, two, one)
        return there, back, _camera_motion(one, there, back, grid)

    forward, backward, camera = [], [], []
    for t, (there, back, motion) in enumerate(in_order(measure, range(len(greys) - 1))):
        forward.append(there)
        backward.append(back)
        camera.append(motion)
        tick(t)
    return Scene(small, forward, backward, camera, grid)


def _camera_motion(grey: NDArray[np.uint8], flow: Field, reverse: Field, grid: Field) -> Affine:
    """How the background moves: an affine map fitted to the flow along the frame's border.

    Reweighted least squares with Cauchy weights, since part of the border may be the subject.
    Corners of the whole image do not work: a subject has more of them than a soft background.
    """
    strip = border_strip(grey.shape, _BORDER_SHARE)
    missed = np.linalg.norm(flow + warp(reverse, grid + flow), axis=2)[strip]
    edges = np.linalg.norm(gradient(grey.astype(np.float32)), axis=2)[strip]
    worth = np.minimum(edges, 20) * np.exp(-(missed**2)) + 1e-3
    place, moved = grid[strip].astype(np.float64), flow[strip].astype(np.float64)
    terms = np.column_stack([place / grey.shape[1] - 0.5, np.ones(len(place))])
    sure = worth >= np.median(worth)
    guess = np.tile(np.median(moved[sure], axis=0), (len(place), 1))
    for _ in range(8):
        error = np.linalg.norm(moved - guess, axis=1)
        weight = (worth / (1 + (error / 0.5) ** 2))[:, None]
        fit = np.linalg.solve(terms.T @ (weight * terms), terms.T @ (weight * moved))
        guess = terms @ fit
    camera = np.eye(3)
    camera[:2, :2] += fit[:2].T / grey.shape[1]
    camera[:2, 2] = fit[2] - 0.5 * fit[:2].sum(axis=0)
    return camera if 0.5 < np.linalg.det(camera) < 2 else np.eye(3)


def carry(scene: Scene, field: Field, source: int, target: int) -> Field:
    """A field of frame `source`, moved along the flow to where its pixels are in `target`."""
    return warp(field, _positions(scene, target, source)) if source != target else field


def _positions(scene: Scene, target: int, source: int) -> Field:
    """Where each pixel of frame `target` is in frame `source`."""
    where, t = scene.grid, target
    while t != source:
        ahead = source > t
        where = where + warp(scene.forward[t] if ahead else scene.backward[t - 1], where)
        t += 1 if ahead else -1
    return where


def vote(scene: Scene, fields: list[Field]) -> list[Field]:
    """The weighted mean of each frame's field and those of its neighbours, carried along the flow.

    A thing that is found in one frame only is outvoted.
    """
    out = []
    for t, own in enumerate(fields):
        total, weights = _OWN_VOTE * own, _OWN_VOTE
        for distance in range(1, _VOTERS + 1):
            for other in (t - distance, t + distance):
                if 0 <= other < len(fields):
                    total = total + carry(scene, fields[other], other, t) / distance
                    weights += 1 / distance
        out.append(total / weights)
    return out


def residual_motion(scene: Scene) -> list[Field]:
    """Speed relative to the camera per frame and pixel, in pixels per frame, where flows agree."""
    ahead, behind = [], []
    for flow, reverse, camera in zip(scene.forward, scene.backward, scene.camera, strict=True):
        ahead.append(_relative_speed(scene, flow, reverse, camera))
        behind.append(_relative_speed(scene, reverse, flow, np.linalg.inv(camera)))
    # the mean of both; for the first frame only ahead, for the last only behind
    pairs = zip([*ahead, behind[-1]], [ahead[0], *behind], strict=True)
    return [np.mean(pair, axis=0) for pair in pairs]


def _relative_speed(scene: Scene, flow: Field, reverse: Field, camera: Affine) -> Field:
    """Length of flow minus camera motion, reduced where the reverse flow does not match."""
    moved = scene.grid @ camera[:2, :2].T.astype(np.float32) + camera[:2, 2].astype(np.float32)
    residual = np.linalg.norm(scene.grid + flow - moved, axis=2)
    returned = warp(reverse, scene.grid + flow)
    error = np.linalg.norm(flow + returned, axis=2)
    return np.asarray(residual * np.exp(-((error / 1.5) ** 2)))
