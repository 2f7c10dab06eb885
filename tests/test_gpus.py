"""Which of a machine's cards CUDA_VISIBLE_DEVICES leaves; the cards are plain lists of facts."""

from __future__ import annotations

import pytest

from actionmesh_wrapper import ActionMeshPipeline
from gpus import Card, find_gpus, visible_gpus
from pipeline import Gpu, choose_pipeline, smallest


def card(number: int, name: str, memory_gb: float) -> Card:
    uuid = f"GPU-{number}000-aaaa"
    return Card(uuid, (Gpu(name, memory_gb, selector=uuid),))


def split_card(number: int, *instances: str) -> Card:
    """Its MIG instances have these UUIDs."""
    return Card(
        f"GPU-{number}000-aaaa", tuple(Gpu("A100 MIG", 20.0, selector=uuid) for uuid in instances)
    )


EQUAL = [card(number, "H100", 85.0) for number in range(4)]
DISPLAY_FIRST = [card(0, "GT 1030", 2.0), card(1, "RTX 4090", 25.7)]
SPLIT = [split_card(0, "MIG-1111", "MIG-2222"), card(1, "A100", 42.9)]


def selectors(cards: list[Card], environ: dict[str, str]) -> list[str]:
    return [gpu.selector for gpu in visible_gpus(cards, environ)]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("0,1,2,3", ["0", "1", "2", "3"]),
        ("2", ["2"]),
        ("3, 1", ["3", "1"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1,-1,2", ["1"]),
        ("1,7,2", ["1"]),
        ("1,1", []),
        ("GPU-2000-aaaa", ["GPU-2000-aaaa"]),
        ("GPU-3,GPU-0", ["GPU-3", "GPU-0"]),
        ("GPU-", []),
        ("GPU-9", []),
        ("MIG-1111", []),
    ],
)
def test_the_variable_leaves_what_cuda_would_leave(listed: str, expected: list[str]) -> None:
    assert selectors(EQUAL, {"CUDA_VISIBLE_DEVICES": listed}) == expected


def test_without_the_variable_each_card_is_selected_by_its_uuid() -> None:
    assert selectors(EQUAL, {}) == [card.uuid for card in EQUAL]


def test_a_single_card_needs_no_selector() -> None:
    assert visible_gpus(EQUAL[:1], {}) == [Gpu("H100", 85.0)]


def test_no_card_is_no_gpu() -> None:
    assert visible_gpus([], {}) == visible_gpus([], {"CUDA_VISIBLE_DEVICES": "0"}) == []


def test_a_small_display_card_is_left_out() -> None:
    (found,) = visible_gpus(DISPLAY_FIRST, {})
    assert (found.name, found.selector) == ("RTX 4090", "GPU-1000-aaaa")
    (only,) = visible_gpus(DISPLAY_FIRST[:1], {})
    assert only.name == "GT 1030"
    (larger,) = visible_gpus([card(0, "GT 1030", 2.0), card(1, "GTX 1050", 4.0)], {})
    assert larger.name == "GTX 1050"


def test_the_largest_card_comes_first() -> None:
    mixed = [card(0, "RTX 3060", 12.9), card(1, "RTX 4090", 25.7), card(2, "RTX 3060", 12.9)]
    assert selectors(mixed, {}) == ["GPU-1000-aaaa", "GPU-0000-aaaa", "GPU-2000-aaaa"]


@pytest.mark.parametrize("index", ["0", "1"])
def test_an_index_among_unequal_cards_promises_no_more_than_the_smallest(index: str) -> None:
    """CUDA numbers the fastest first, and NVML cannot tell which that is."""
    (found,) = visible_gpus(DISPLAY_FIRST, {"CUDA_VISIBLE_DEVICES": index})
    assert (found.memory_gb, found.selector) == (2.0, index)


@pytest.mark.parametrize(("index", "name"), [("0", "GT 1030"), ("1", "RTX 4090")])
def test_in_pci_order_an_index_names_its_card(index: str, name: str) -> None:
    environ = {"CUDA_VISIBLE_DEVICES": index, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert [gpu.name for gpu in visible_gpus(DISPLAY_FIRST, environ)] == [name]


def test_mig_instances_are_gpus_of_their_own() -> None:
    assert selectors(SPLIT, {}) == ["GPU-1000-aaaa", "MIG-1111", "MIG-2222"]
    assert selectors(SPLIT, {"CUDA_VISIBLE_DEVICES": "MIG-2222"}) == ["MIG-2222"]
    (first,) = visible_gpus(SPLIT, {"CUDA_VISIBLE_DEVICES": "GPU-0"})
    assert (first.name, first.memory_gb) == ("A100 MIG", 20.0)
    assert visible_gpus([split_card(0)], {}) == []


def test_a_mode_must_fit_the_smallest_card() -> None:
    assert smallest([Gpu("a", 80.0), Gpu("b", 12.0), Gpu("c", 24.0)]) == Gpu("b", 12.0)
    assert smallest([]) is None


def test_actionmesh_on_a_cpu_reports_no_gpu() -> None:
    assert ActionMeshPipeline(device="cpu").gpu is None


def test_hidden_cards_choose_no_gpu_pipeline() -> None:
    found = visible_gpus(EQUAL, {"CUDA_VISIBLE_DEVICES": ""})
    assert choose_pipeline("auto", smallest(found)).name == "silhouette"


def test_a_machine_without_a_driver_has_no_gpu() -> None:
    """The real NVML where there is one: on any machine an empty list hides all."""
    assert find_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
