"""Tiny real pipelines, each with one behaviour or fault. The child loads them by name.

Not mocks: they satisfy pipeline.Pipeline, run in the real child and make real meshes. Name one
with PIPELINE=tests.pipelines:Bends.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import resource
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from errors import GpuError, GpuOutOfMemory, NoSubjectFound, WeightsUnavailable
from meshes.sequence import MeshSequence
from settings import Settings


class Bends:
    """A box that bends left and right: finishes at once."""

    name = "tests"
    shares: Mapping[str, float] = {"shape": 0.2, "motion": 0.8}
    step_s = 0.0

    def load(self, reporter: Any) -> None:
        """Nothing to load."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """A box of 8 vertices over the clip's length."""
        corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        vertices = np.repeat(corners[None] * 0.5, len(clip), axis=0).astype(np.float32)
        reporter.progress("shape", 1, 1, "Making a box")
        reporter.anchor(MeshSequence(vertices[:1], _BOX, clip.fps))
        for k in range(len(clip)):
            reporter.progress("motion", k, len(clip), "Bending it")
            vertices[k, corners[:, 1] > 0, 0] += 0.4 * np.sin(2 * np.pi * k / len(clip))
            self.step(k)
        reporter.warning("tests", "This is a box.")
        return MeshSequence(vertices, _BOX, clip.fps)

    def step(self, k: int) -> None:
        """What happens between two timesteps."""
        time.sleep(self.step_s)


class MakesManyBoxes(Bends):
    """Boxes of several sizes: the second one fits best."""

    rest_s = 0.0

    def animate(
        self,
        clip: Any,
        mode: str,
        seed: int,
        reporter: Any,
        mesh: Any = None,
        faces: Any = None,
        tries: int = 1,
    ) -> MeshSequence:
        """As many boxes as tries."""
        made = super().animate(clip, mode, seed, reporter)
        for k in range(tries if tries > 1 else 0):
            box = replace(made, vertices=made.vertices[:1] * np.float32(1 + k))
            reporter.tried(box, (seed + k) % 2**32, 0.9 - 0.25 * (k - 1) ** 2)
            reporter.progress("shape", k + 1, tries)
        reporter.anchor(replace(made, vertices=made.vertices[:1]), (seed + (tries > 1)) % 2**32)
        time.sleep(self.rest_s)
        return made


class MakesManyBoxesSlowly(MakesManyBoxes):
    """Goes on for seconds after the boxes."""

    rest_s = 3.0


class Dense(Bends):
    """An animal of 40,000 faces: the most that a mesh of ActionMesh has."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """It walks for as long as the clip lasts."""
        # imports OpenCV, which the others do not need
        from tests.meshes.walking_animal import walking_animal

        return walking_animal(len(clip), rings=142, fps=clip.fps)


class WalksInManyFaces(Bends):
    """An animal of 40,000 faces without colours: they are made from the video."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """16 steps, forth and back as often as needed."""
        from tests.meshes.walking_animal import walking_animal

        walk = walking_animal(16, 142, "plain", clip.fps)
        steps = np.array([*range(16), *range(14, 0, -1)])[np.arange(len(clip)) % 30]
        reporter.anchor(replace(walk, vertices=walk.vertices[:1]))
        return replace(walk, vertices=np.ascontiguousarray(walk.vertices[steps]))


class Walks(Bends):
    """The animal of tests/appearance/animal_video.py; where it was filmed from is not told."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """As many timesteps as frames."""
        # imports OpenCV, which the others do not need
        from tests.appearance.animal_video import animal

        return animal(len(clip))


class WalksInView(Walks):
    """The same, and tells its view."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """The camera that filmed it."""
        from tests.appearance.animal_video import camera

        meshes = super().animate(clip, mode, seed, reporter)
        return replace(meshes, view=camera(len(meshes)))


class WalksWithColours(WalksInView):
    """The same, with colours of its own."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """All vertices are grey."""
        meshes = super().animate(clip, mode, seed, reporter)
        grey = np.full((meshes.vertices.shape[1], 4), 128, np.uint8)
        return replace(meshes, colors=grey)


class StandsInView(WalksInView):
    """The animal does not move."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """Every timestep is the first."""
        meshes = super().animate(clip, mode, seed, reporter)
        return replace(meshes, vertices=np.repeat(meshes.vertices[:1], len(meshes), axis=0))


class Collapses(Bends):
    """All vertices are at one point."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """A mesh that has no size, so that no camera can be found."""
        meshes = super().animate(clip, mode, seed, reporter)
        return replace(meshes, vertices=meshes.vertices * np.float32(0))


class ReadsItsMeshes(Bends):
    """The meshes that a test has put beside JOBS_DIR: SEED.npz, written by MeshSequence.save."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """At the clip's own rate."""
        meshes = MeshSequence.load(reporter.task.folder.parent.parent / f"{seed}.npz")
        meshes = replace(meshes, fps=clip.fps)
        reporter.anchor(replace(meshes, vertices=meshes.vertices[:1]))
        return meshes


class Sleeps(Bends):
    """Takes about four seconds and can be cancelled at every step."""

    step_s = 0.25


class GrowsTall(Sleeps):
    """A thin box, whose animation is taller than its anchor mesh."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """Like a person who stands upright."""
        box = super().animate(clip, mode, seed, reporter)
        return replace(box, vertices=box.vertices * np.array([0.3, 1.9, 0.3], np.float32))


class FindsTheMiddle(Sleeps):
    """Says that the subject is the middle of the picture, in its own way."""

    def find_subject(self, clip: Any, choice: Any, reporter: Any) -> Any:
        """Half of the width and of the height."""
        _, height, width, _ = clip.frames.shape
        alpha = np.zeros(clip.frames.shape[:3], np.uint8)
        alpha[:, height // 4 : height * 3 // 4, width // 4 : width * 3 // 4] = 255
        found = clip.with_alpha(alpha)
        reporter.progress("background", 1, 1, "Looking at the middle")
        reporter.subject(found, "middle", 0.5)
        return found


class SleepsLong(Bends):
    """Takes minutes unless cancelled."""

    step_s = 5.0

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """Checks for a cancel ten times a second."""
        for k in range(3000):
            reporter.progress("motion", k, 3000, "Sleeping")
            time.sleep(0.1)
        return super().animate(clip, mode, seed, reporter)


class FindsTheMiddleSlowly(FindsTheMiddle, SleepsLong):
    """Goes on for minutes before there is a mesh."""


class SeesTwoSubjects(Bends):
    """Is not sure of the subject, and says so."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """Two boxes to choose from, and two frames to look at."""
        boxes = ["0.1,0.2,0.4,0.9", "0.5,0.25,0.85,0.95"]
        reporter.warning("several_subjects", "There are 2 subjects.", boxes=boxes)
        reporter.warning("tracking_lost", "The mesh fits badly in 2 frames.", frames=[3, 12])
        return super().animate(clip, mode, seed, reporter)


class Hangs(Bends):
    """Never checks for a cancel."""

    def step(self, k: int) -> None:
        """Only SIGKILL ends it."""
        while True:
            time.sleep(60)


class FindsNothing(Bends):
    """A user fault with a number in it."""

    def step(self, k: int) -> None:
        """At the third frame."""
        if k == 2:
            raise NoSubjectFound("No subject was found in frame 2.", frame=2)


class SleepsAndFindsNothing(Bends):
    """Takes time without work: for tests that count jobs."""

    def step(self, k: int) -> None:
        """Two seconds at the first step, then a user fault."""
        time.sleep(2.0)
        raise NoSubjectFound("No subject was found in frame 0.", frame=0)


class HasABug(Bends):
    """Raises an unexpected exception."""

    def step(self, k: int) -> None:
        """The message must not reach a client."""
        raise RuntimeError("secret words from /some/path")


class RunsOutOfGpuMemory(Bends):
    """An expected server fault."""

    def step(self, k: int) -> None:
        """At the first step."""
        raise GpuOutOfMemory("The GPU ran out of memory in mode 'default'.")


class LosesGpu(Bends):
    """A sticky CUDA error: the child reports it and ends."""

    def step(self, k: int) -> None:
        """At the first step."""
        raise GpuError("The GPU's context is lost.", sticky=1)


class Exits(Bends):
    """Ends its process with an exit code."""

    def step(self, k: int) -> None:
        """At the second step."""
        if k == 1:
            os._exit(3)


class IsKilled(Bends):
    """Is killed as by the kernel's out-of-memory killer."""

    def step(self, k: int) -> None:
        """At the second step."""
        if k == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class IsKilledOnce(Bends):
    """Is killed in the first attempt of a job, and finishes the second one."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """The workspace's name has the number of the attempt."""
        workspace = reporter.task.workspace
        if workspace.name == "attempt-1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().animate(clip, mode, seed, reporter)


class Segfaults(Bends):
    """Reads from an invalid address."""

    def step(self, k: int) -> None:
        """Address zero."""
        ctypes.string_at(0)


class Aborts(Bends):
    """Ends itself, as native code does where an assertion fails."""

    def step(self, k: int) -> None:
        """SIGABRT."""
        os.abort()


class AbortsAtExit(LosesGpu):
    """Loses its GPU; then a library aborts while the process ends."""

    def load(self, reporter: Any) -> None:
        """As destructors of CUDA objects do after an error."""
        atexit.register(os.abort)


class CrashesWhileLoading(Bends):
    """Crashes before it gets a task."""

    def load(self, reporter: Any) -> None:
        """As a package that was built for another processor."""
        os.kill(os.getpid(), signal.SIGILL)


class Prints(Bends):
    """Writes a fake protocol message to stdout, and an endless line to stderr."""

    def step(self, k: int) -> None:
        """print() and a write below Python's buffers."""
        os.write(1, b'{"is": "finished", "result": {}}\n')
        os.write(2, b"x" * 100_000)


class ReportsItsEnvironment(Bends):
    """Reports a setting of its process."""

    def load(self, reporter: Any) -> None:
        """The variable was set before this file was imported."""
        self._compile = os.environ.get("ACTIONMESH_COMPILE", "")

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """As a warning of the job."""
        reporter.warning("compile", self._compile)
        return super().animate(clip, mode, seed, reporter)


class BreaksProtocol(Bends):
    """Writes garbage into the protocol's pipe."""

    def step(self, k: int) -> None:
        """Writes to every descriptor that is a pipe."""
        for descriptor in range(3, 32):
            try:
                os.write(descriptor, b"\x00\xff no protocol of ours\n")
            except OSError:
                continue
        time.sleep(600)  # or its meshes may be made before the junk is read


class CannotLoad(Bends):
    """Its weights are missing."""

    def load(self, reporter: Any) -> None:
        """As a pipeline without network."""
        raise WeightsUnavailable("The weights are not on disk.", hint="Run `make actionmesh`.")


class FetchesWeights(Bends):
    """Downloads ActionMesh's weights, and does not use them."""

    def load(self, reporter: Any) -> None:
        """As actionmesh_wrapper.py does."""
        # imports httpx, which the others do not need
        from upstream.weights import ensure_weights

        revisions = Settings.from_environment(os.environ).weight_revisions
        fetched = partial(reporter.progress, "downloading", message="Fetching the weights")
        ensure_weights(revisions, fetched)


class HangsWhileLoading(Bends):
    """Never finishes loading."""

    def load(self, reporter: Any) -> None:
        """Like a download from a host that stopped sending."""
        time.sleep(600)


class EatsMemory(Bends):
    """Allocates more memory than its limit."""

    def step(self, k: int) -> None:
        """Up to a terabyte, without writing to it."""
        low = min(2 << 30, resource.getrlimit(resource.RLIMIT_DATA)[0] % (1 << 62))
        resource.setrlimit(resource.RLIMIT_DATA, (low, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        blocks = [np.empty(1 << 28, np.uint8) for _ in range(4096)]
        raise AssertionError(f"{len(blocks)} blocks could be allocated")


class GrowsMemory(Bends):
    """Uses more and more memory, whatever it may reserve."""

    def step(self, k: int) -> None:
        """Up to four gigabytes, in small steps."""
        blocks = []
        for _ in range(256):
            blocks.append(np.ones(1 << 24, np.uint8))
            time.sleep(0.005)
        raise AssertionError(f"{len(blocks)} blocks could be used")


class ReadsAMappedFile(Bends):
    """Maps a file of 400 MB, as weights are mapped, and reads every page for a while."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """The file is sparse: it takes no disk."""
        path = reporter.task.folder / "weights"
        with open(path, "wb") as file:
            file.truncate(400 << 20)
        weights = np.memmap(path, np.uint8, "r")
        for _ in range(20):
            assert not weights[::4096].any()
            time.sleep(0.05)
        path.unlink()
        return super().animate(clip, mode, seed, reporter)


class WritesAHugeFile(Bends):
    """Makes a file of five gigabytes."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """Sparse, so that no disk is needed."""
        with open(reporter.task.workspace / "huge", "wb") as file:
            file.truncate(5 << 30)
        return super().animate(clip, mode, seed, reporter)


class Spins(Bends):
    """Computes for ever."""

    def step(self, k: int) -> None:
        """Never returns to the reporter."""
        while True:
            pass


class Specks(Bends):
    """Two tiny tetrahedra far apart: little to render, for tests with many jobs."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """Eight vertices over the clip's length."""
        speck = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * 0.01
        corners = np.concatenate([speck - 0.9, speck + 0.9])
        vertices = np.repeat(corners[None], len(clip), axis=0).astype(np.float32)
        reporter.progress("shape", 1, 1, "Making two specks")
        reporter.anchor(MeshSequence(vertices[:1], _SPECKS, clip.fps))
        for k in range(len(clip)):
            reporter.progress("motion", k, len(clip), "Looking at them")
            self.step(k)
        return MeshSequence(vertices, _SPECKS, clip.fps)


class LosesItsFfmpeg(Specks):
    """Removes ffmpeg after the clip was read."""

    def step(self, k: int) -> None:
        """IMAGEIO_FFMPEG_EXE is a link that the test made."""
        ffmpeg = os.environ["IMAGEIO_FFMPEG_EXE"]
        if os.path.islink(ffmpeg):
            os.unlink(ffmpeg)


class SpecksSlowly(Specks):
    """Takes about two seconds: long enough to be interrupted."""

    step_s = 0.12


class StampsItsBeginning(Specks):
    """Appends the time of each start to a file beside JOBS_DIR."""

    step_s = 0.05

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """A line of seconds since 1970."""
        folder = reporter.task.folder
        with open(folder.parent.parent / f"{folder.name}.began", "a") as stamps:
            stamps.write(f"{time.time()}\n")
        return super().animate(clip, mode, seed, reporter)


class StampsItsBeginningSlowly(StampsItsBeginning):
    """Also takes about four seconds."""

    step_s = 0.25


class SendsAnEndlessLine(Bends):
    """Writes a protocol line that never ends."""

    def step(self, k: int) -> None:
        """Every descriptor that is a pipe gets two megabytes without a newline."""
        for descriptor in range(3, 32):
            try:
                for _ in range(32):
                    os.write(descriptor, b"x" * (1 << 16))
            except OSError:
                continue
        time.sleep(600)


class ObeysSeed(Specks):
    """The seed chooses the behaviour, so that one server runs good and bad jobs."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """Seeds without an entry, such as the default 44, work."""
        behaviour = BEHAVIOURS.get(seed, Specks)()
        return behaviour.animate(clip, mode, seed, reporter)


BEHAVIOURS: Mapping[int, type[Bends]] = {
    1: Exits, 2: IsKilled, 3: Segfaults, 4: BreaksProtocol, 5: SendsAnEndlessLine, 6: EatsMemory,
    7: HasABug, 8: FindsNothing, 9: Hangs, 10: SleepsLong, 11: SpecksSlowly, 12: IsKilledOnce,
    13: GrowsMemory,
}  # fmt: skip

# two triangles a side, counter-clockwise from outside; corner index is 4x + 2y + z
_BOX = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ],
    np.int32,
)  # fmt: skip
_SPECKS = np.array(
    [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3], [4, 6, 5], [4, 5, 7], [4, 7, 6], [5, 6, 7]],
    np.int32,
)
