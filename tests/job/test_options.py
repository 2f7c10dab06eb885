"""Options of a job: a form's text and a JSON value mean the same, and an error names the option."""

from __future__ import annotations

from typing import Any

import pytest

from errors import InvalidParameter
from job.options import REQUEST_FIELDS, RETRY_FIELDS, JobOptions, check_names

DEFAULTS = JobOptions(mode="fast")


@pytest.mark.parametrize(
    ("text", "value", "found"),
    [
        ({"seed": " 7 "}, {"seed": 7.0}, {"seed": 7}),
        ({"start": "1e1"}, {"start": 10}, {"start": 10.0}),
        ({"fps": ".5e1"}, {"fps": 5}, {"fps": 5.0}),
        ({"fps": ""}, {"fps": None}, {}),
        ({"blender_export": "ON"}, {"blender_export": True}, {"blender_export": True}),
        ({"formats": "npz, USDZ,npz"}, {"formats": ["npz", "usdz"]}, {"formats": ("npz", "usdz")}),
        ({"video_url": " http://a "}, {"video_url": "http://a"}, {"video_url": "http://a"}),
    ],
)
def test_text_and_json_mean_the_same(
    text: dict[str, Any], value: dict[str, Any], found: dict[str, Any]
) -> None:
    assert DEFAULTS.changed(text) == DEFAULTS.changed(value) == DEFAULTS.model_copy(update=found)


@pytest.mark.parametrize(
    ("name", "value", "need"),
    [
        ("mode", "slow", "one of default, fast, fast_low_ram"),
        ("seed", True, "a whole number from 0 to 4294967295"),
        ("seed", "1.0", "a whole number from 0 to 4294967295"),
        ("seed", 10**300, "a whole number from 0 to 4294967295"),
        ("start", 10**400, "a number from 0 to 86400"),
        ("start", float("nan"), "a number from 0 to 86400"),
        ("fps", "0x10", "a number from 1 to 60"),
        ("fps", [10], "a number from 1 to 60"),
        ("max_frames", 32, "a whole number from 16 to 31"),
        ("blender_export", "maybe", "true or false"),
        ("formats", "npz,obj", "a comma list of usdz, npz"),
        ("webhook_url", 7, "an http or https address"),
    ],
)
def test_an_invalid_value_is_refused_with_the_valid_range(name: str, value: Any, need: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        DEFAULTS.changed({name: value})
    assert caught.value.message.startswith(f"{name} must be {need}, not ")
    assert caught.value.facts["field"] == name


def test_a_misspelled_name_or_mode_gets_a_suggestion() -> None:
    with pytest.raises(InvalidParameter, match="Did you mean `seed`"):
        check_names(["sed"], REQUEST_FIELDS)
    with pytest.raises(InvalidParameter) as caught:
        DEFAULTS.changed({"mode": "fst"})
    assert caught.value.hint == "Did you mean `fast`?"


def test_every_option_of_a_request_has_a_description() -> None:
    assert all(field["description"] for field in REQUEST_FIELDS.values())
    assert set(REQUEST_FIELDS) == set(JobOptions.model_fields) - {"mesh"}
    assert "video_url" not in RETRY_FIELDS and "seed" in RETRY_FIELDS
    assert JobOptions.model_validate(DEFAULTS.model_dump(mode="json")) == DEFAULTS
