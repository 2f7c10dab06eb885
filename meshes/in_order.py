"""How a writer here is given more than one core: a function like `map`, passed by its caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


class InOrder(Protocol):
    """The results of `work` for all items, in their order. Raises what `work` raises.

    It may work in other processes: what `work` changes is lost.
    """

    def __call__(self, work: Callable[[Item], Made], items: Sequence[Item], /) -> Iterator[Made]:
        """One result for each item."""
