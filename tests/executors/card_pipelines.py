"""Pipelines for tests with several slots: CUDA_VISIBLE_DEVICES, one per slot, tells them apart.

No GPU is needed: the variable only names a card here. The child loads them by name.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from errors import GpuError, NoSubjectFound
from meshes.sequence import MeshSequence
from pipeline import Gpu
from tests.pipelines import Specks


class NamesItsCard(Specks):
    """Reports its card when it is loaded, and as a warning of each job."""

    def load(self, reporter: Any) -> None:
        """A card's memory is its number in GB, and 10 more."""
        self.card = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        number = int(self.card) if self.card.isdecimal() else 0
        self.gpu = Gpu(f"card {self.card}", 10.0 + number)

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """As Specks."""
        reporter.warning("card", self.card)
        return super().animate(clip, mode, seed, reporter)


class NeedsItsFile(NamesItsCard):
    """The card is a path: without this file it cannot be used."""

    def load(self, reporter: Any) -> None:
        """As with a card that the driver has lost."""
        super().load(reporter)
        if not Path(self.card).exists():
            raise GpuError("The driver has lost this card.")


class LogsItsLoading(NamesItsCard):
    """Adds a line to a file when it begins to load and when it has loaded."""

    def load(self, reporter: Any) -> None:
        """The card is a number and the path of that file."""
        super().load(reporter)
        _, _, path = self.card.partition(":")
        for line in ("begins", "ends"):
            with open(path, "a") as lines:
                lines.write(f"{line}\n")
            time.sleep(0.3)


class HangsOnCardZero(NamesItsCard):
    """Card 0 never finishes loading."""

    def load(self, reporter: Any) -> None:
        """All other cards do."""
        super().load(reporter)
        if self.card == "0":
            time.sleep(600)


class HangsOrBreaks(HangsOnCardZero):
    """No card can be used."""

    def load(self, reporter: Any) -> None:
        """The others fail at once."""
        super().load(reporter)
        raise GpuError("The driver has lost this card.")


class WaitsForFile(NamesItsCard):
    """A job runs until the file `go-on` is beside its folder; seed 1 is already half done."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """Checks for a cancel ten times a second."""
        go_on = reporter.task.folder.parent / "go-on"
        while not go_on.exists():
            reporter.progress("motion", 1 if seed == 1 else 0, 2, "Waiting")
            time.sleep(0.1)
        return super().animate(clip, mode, seed, reporter)


class StopsOnCardZero(WaitsForFile):
    """As WaitsForFile, but a job on card 0 ends its process."""

    def step(self, k: int) -> None:
        """At the first step."""
        if self.card == "0":
            os._exit(3)


class SleepsAndFindsNothing(NamesItsCard):
    """Takes four seconds without work; notes in `<card>.stamps` when each job began and ended."""

    step_s = 0.25

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """A line for each, in seconds since 1970, beside JOBS_DIR."""
        began = time.time()
        super().animate(clip, mode, seed, reporter)
        stamps = reporter.task.folder.parent.parent / f"{self.card}.stamps"
        with open(stamps, "a") as lines:
            lines.write(f"{began} {time.time()}\n")
        raise NoSubjectFound("No subject was found in frame 0.", frame=0)
