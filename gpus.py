"""Finds the CUDA GPUs that this process may use, through NVML: no CUDA context, no torch.

main.py and deploy/runpod_handler.py ask before there is a child, to choose the pipeline and its
GPUs; child/exports.py asks for free memory. Which card a child really got, it reports itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline import Gpu, smallest

DISPLAY_CARD_GB = 6.0
"""A card with less memory gets no jobs unless it is named or the only one: it holds no model."""


@dataclass(frozen=True)
class Card:
    """One card of NVML's list: its UUID, and what CUDA offers of it: itself, or its MIG instances.

    The selector of each is its own UUID.
    """

    uuid: str
    gpus: tuple[Gpu, ...]


def find_gpus(environ: Mapping[str, str]) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves; empty without a GPU or a driver."""
    return visible_gpus(_cards(), environ)


def visible_gpus(cards: Sequence[Card], environ: Mapping[str, str]) -> list[Gpu]:
    """Those of `cards`, in PCI order, that CUDA would offer with these environment variables.

    With CUDA_VISIBLE_DEVICES in its order; each selector is then the entry as written, which CUDA
    itself interprets again. Without it the largest first, without display cards.
    """
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return _usable([gpu for card in cards for gpu in card.gpus])
    is_pci_order = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    entries = [entry.strip() for entry in listed.split(",")]
    found: list[Gpu] = []
    for entry in entries:
        gpu = _by_index(cards, int(entry), is_pci_order) if entry.isdecimal() else None
        gpu = gpu or _by_uuid(cards, entry)
        if gpu is None:  # CUDA ignores an entry that it does not know, and all after it
            break
        found.append(replace(gpu, selector=entry))
    named = entries[: len(found)]
    return found if len(set(named)) == len(named) else []  # CUDA offers none if one is named twice


def _usable(gpus: list[Gpu]) -> list[Gpu]:
    if len(gpus) == 1:
        return [replace(gpus[0], selector="")]
    by_memory = sorted(gpus, key=lambda gpu: -gpu.memory_gb)
    return [gpu for gpu in by_memory if gpu.memory_gb >= DISPLAY_CARD_GB] or by_memory[:1]


def _by_index(cards: Sequence[Card], index: int, is_pci_order: bool) -> Gpu | None:
    """The first GPU of this card; for unequal cards in CUDA's own order, the smallest of all.

    CUDA numbers the fastest card first unless CUDA_DEVICE_ORDER says otherwise, and NVML cannot
    tell which that is. The smallest promises no mode that may not fit, until the child reports.
    """
    firsts = [card.gpus[0] for card in cards if card.gpus]
    if index >= len(firsts):
        return None
    kinds = {(gpu.name, gpu.memory_gb) for gpu in firsts}
    return firsts[index] if is_pci_order or len(kinds) == 1 else smallest(firsts)


def _by_uuid(cards: Sequence[Card], entry: str) -> Gpu | None:
    """The GPU whose UUID begins with `entry`, if there is only one."""
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    named = {gpu.selector: gpu for card in cards for gpu in card.gpus}
    named |= {card.uuid: card.gpus[0] for card in cards if card.gpus}
    matching = [gpu for uuid, gpu in named.items() if uuid.startswith(entry)]
    return matching[0] if len(matching) == 1 else None


def _cards() -> list[Card]:
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    cards = []
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # one broken card hides no other
                cards.append(_card(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)))
    except pynvml.NVMLError:
        return []
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
    return cards


def _card(pynvml: Any, handle: Any) -> Card:
    """Raises NVMLError."""
    instances = []
    try:
        is_split = pynvml.nvmlDeviceGetMigMode(handle)[0] == pynvml.NVML_DEVICE_MIG_ENABLE
    except pynvml.NVMLError:  # most cards cannot be split
        is_split = False
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle) if is_split else 0):
        with contextlib.suppress(pynvml.NVMLError):  # not every place is taken
            instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            instances.append(_gpu(pynvml, instance))
    gpus = instances if is_split else [_gpu(pynvml, handle)]
    return Card(str(pynvml.nvmlDeviceGetUUID(handle)), tuple(gpus))


def _gpu(pynvml: Any, handle: Any) -> Gpu:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    total, free = (round(int(size) / 1e9, 1) for size in (memory.total, memory.free))
    name, uuid = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle)
    return Gpu(str(name), total, free, selector=str(uuid))
