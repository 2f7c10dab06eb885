"""The short attacks of tests/faults/attacks: answers, memory of the API process, and what is left.

`make attack` runs all of them, and measures how long /health waits meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.attacks import ATTACKS
from tests.faults.attacks.attack import Attack, Target
from tests.faults.attacks.measure import measure, warm_up
from tests.faults.processes import adopt_orphans
from tests.faults.server import Server

SHORT = [found for found in ATTACKS.values() if found.short]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Target]]:
    """Servers without a key that have worked before: nothing is imported during an attack."""
    media = os.environ.get("TEST_MEDIA")
    made: dict[str, Target] = {}
    with adopt_orphans(), ExitStack() as running:

        def target(pipeline: str) -> Target:
            if pipeline not in made:
                folder = tmp_path_factory.mktemp(pipeline)
                server = running.enter_context(Server(folder, pipeline)).start()
                made[pipeline] = Target(server, folder, Path(media) if media else None)
                warm_up(made[pipeline])
            return made[pipeline]

        yield target


@pytest.mark.parametrize("attack", SHORT, ids=lambda attack: attack.name)
def test_an_attack_gets_right_answers_moves_no_memory_and_leaves_nothing(
    targets: Callable[[str], Target], attack: Attack
) -> None:
    target = targets(attack.pipeline)
    if attack.needs_media and target.media is None:
        pytest.skip("TEST_MEDIA is not set")
    assert measure(attack, target).faults == []
