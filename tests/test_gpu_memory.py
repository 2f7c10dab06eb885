"""The plan for each size of card: what the docs say, the API offers, and a job may still try."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.modes import default_mode, is_available, parse_options
from errors import ModeUnavailable
from gpu_memory import WAITING, MemoryPlan, choose_plan, needed_gb, plans
from pipeline import ACTIONMESH, MODES, Gpu, Mode, PipelineChoice

CARDS_GB = (8, 12, 16, 24, 32, 48, 80)
WORDS = {
    "resident": "all weights on the GPU",
    "parked": "some weights wait",
    "one_part": "one model at a time",
}


def choice(memory_gb: float) -> PipelineChoice:
    return PipelineChoice("actionmesh", "a test", Gpu("a test's GPU", memory_gb))


def cell(mode: Mode, memory_gb: float) -> str:
    """What deploy.md's table says of a mode on a card."""
    if not is_available(mode, choice(memory_gb)):
        return "refused"
    plan = choose_plan(ACTIONMESH[mode].low_ram, memory_gb)
    assert plan is not None and plan.low_ram == ACTIONMESH[mode].low_ram
    words = WORDS[plan.placement]
    return words if plan.needed_gb <= memory_gb else f"{words}, probably too little"


@pytest.mark.parametrize("memory_gb", CARDS_GB)
def test_deploy_md_says_what_each_card_does(memory_gb: int) -> None:
    page = (Path(__file__).parents[1] / "deploy.md").read_text()
    row = re.search(rf"^\| {memory_gb} GB \| (.*) \| (.*) \|$", page, re.MULTILINE)
    assert row is not None
    assert row[1] == cell("default", memory_gb) == cell("fast", memory_gb)
    assert row[2] == cell("fast_low_ram", memory_gb)


def test_the_docs_name_what_each_mode_needs() -> None:
    root = Path(__file__).parents[1]
    for name in ("README.md", "deploy.md"):
        for mode in MODES:
            needed = ACTIONMESH[mode].min_vram_gb
            assert f"| `{mode}` | {needed} GB |" in (root / name).read_text()


@pytest.mark.parametrize("memory_gb", CARDS_GB)
def test_default_and_fast_need_the_same_memory(memory_gb: int) -> None:
    assert needed_gb(low_ram=True) < needed_gb(low_ram=False)
    assert is_available("default", choice(memory_gb)) == is_available("fast", choice(memory_gb))
    enough = memory_gb >= needed_gb(low_ram=False)
    assert default_mode(choice(memory_gb)) == ("default" if enough else "fast_low_ram")


def test_a_card_that_reports_less_than_it_is_sold_with_is_not_refused() -> None:
    assert is_available("default", choice(11.6))  # 12 GB without what the driver keeps


def test_a_mode_that_cannot_fit_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModeUnavailable, match="needs about 12 GB .* has 8 GB") as caught:
        parse_options({"mode": "fast"}, choice(8.2))
    assert caught.value.hint == "Use mode=fast_low_ram."
    assert parse_options({}, choice(4.0)).mode == "fast_low_ram"


def test_each_plan_needs_less_than_the_one_before() -> None:
    for low_ram in (False, True):
        needs = [plan.needed_gb for plan in plans(low_ram)]
        assert needs == sorted(needs, reverse=True)
        assert plans(low_ram)[-1] == MemoryPlan("one_part", low_ram=True)


@pytest.mark.parametrize("low_ram", [False, True])
@pytest.mark.parametrize("free_gb", [0.0, *map(float, CARDS_GB)])
def test_a_plan_fits_or_is_the_smallest(low_ram: bool, free_gb: float) -> None:
    plan = choose_plan(low_ram, free_gb)
    assert plan is not None
    better = plans(low_ram)[: plans(low_ram).index(plan)]
    assert all(other.needed_gb > free_gb for other in better)
    assert plan.needed_gb <= free_gb or plan == plans(low_ram)[-1]


@pytest.mark.parametrize("low_ram", [False, True])
@pytest.mark.parametrize("free_gb", [0.0, 11.5, 80.0])
def test_after_running_out_a_job_tries_less_until_nothing_is_left(
    low_ram: bool, free_gb: float
) -> None:
    tried = []
    plan = choose_plan(low_ram, free_gb)
    while plan is not None:
        tried.append(plan)
        plan = choose_plan(low_ram, free_gb, failed=plan)
    needs = [plan.needed_gb for plan in tried]
    assert needs == sorted(set(needs), reverse=True)
    assert tried[-1] == plans(low_ram)[-1]
    assert free_gb < 80 or len(tried) == len(plans(low_ram))


def test_only_weights_of_other_stages_wait_beside_motion_and_decoding() -> None:
    assert WAITING["parked"] == {"background", "shape", "context"}
