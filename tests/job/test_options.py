"""Options of a job: a form's text and a JSON value mean the same, and an error names the option."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from errors import InvalidParameter
from job.options import REQUEST_FIELDS, RETRY_FIELDS, JobOptions, check_names
from pipeline import SubjectChoice

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
        ("max_frames", 122, "a whole number from 16 to 121"),
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


# --- which subject


@pytest.mark.parametrize(
    ("name", "text", "kept", "choice"),
    [
        ("subject_box", " .25, 0.10 ,75e-2,1.0 ", "0.25,0.1,0.75,1", (0.25, 0.1, 0.75, 1.0)),
        ("subject_box", "-0,0,0.01,1", "0,0,0.01,1", (0.0, 0.0, 0.01, 1.0)),
        ("subject_box", "0,0,0.333333,0.999999", "0,0,0.3333,1", (0.0, 0.0, 0.3333, 1.0)),
        ("subject_point", "0, 1", "0,1", (0.0, 1.0)),
    ],
)
def test_a_choice_is_kept_in_one_form(name: str, text: str, kept: str, choice: Any) -> None:
    options = DEFAULTS.changed({name: text})
    assert getattr(options, name) == kept
    assert options.subject_choice == SubjectChoice(**{name.removeprefix("subject_"): choice})
    assert options.changed({name: kept}) == options


def test_the_whole_picture_is_no_choice() -> None:
    assert DEFAULTS.subject_choice is None
    assert DEFAULTS.changed({"subject_box": "0,0,1,1"}).subject_choice is None


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("subject_box", "0.1,0.2,0.3", "not 3"),
        ("subject_box", "0.1,0.2,0.3,0.4,0.5", "not 5"),
        ("subject_box", "0.5,0.2,0.4,0.8", "left is 0.5 and its right 0.4"),
        ("subject_box", "0.5,0.2,0.5,0.8", "left is 0.5 and its right 0.5"),
        ("subject_box", "0,0.2,1,0.205", "top is 0.2 and its bottom 0.205"),
        ("subject_box", "0,0,1.2,1", "right is 1.2, outside the picture"),
        ("subject_box", "-0.1,0,1,1", "left is -0.1, outside the picture"),
        ("subject_box", "nan,0,1,1", "from 0 to 1"),
        ("subject_box", "0,0,inf,1", "from 0 to 1"),
        ("subject_box", "1e-400,0,1,1", "from 0 to 1"),
        ("subject_box", "\u0660,0,1,1", "from 0 to 1"),
        ("subject_box", "0 0 1 1", "from 0 to 1"),
        ("subject_box", [0, 0, 1, 1], "from 0 to 1"),
        ("subject_box", True, "from 0 to 1"),
        ("subject_point", "0.5", "not 1"),
        ("subject_point", "0.5,1.01", "y is 1.01, outside the picture"),
        ("subject_point", 0.5, "from 0 to 1"),
    ],
)
def test_a_wrong_choice_is_refused_with_its_numbers(name: str, value: Any, found: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        DEFAULTS.changed({name: value})
    assert caught.value.message.startswith(f"{name} must be ") and found in caught.value.message
    assert caught.value.facts["field"] == name


def test_a_choice_replaces_the_other_kind_and_two_are_refused() -> None:
    box = DEFAULTS.changed({"subject_box": "0,0,0.5,0.5"})
    point = box.changed({"subject_point": "0.7,0.7", "subject_box": None})
    assert (point.subject_box, point.subject_point) == (None, "0.7,0.7")
    assert point.changed({"subject_box": "0,0,1,1"}).subject_choice is None
    assert box.changed({"seed": 7, "subject_box": ""}).subject_box == "0,0,0.5,0.5"
    with pytest.raises(InvalidParameter, match="only one"):
        DEFAULTS.changed({"subject_box": "0,0,1,1", "subject_point": "0.5,0.5"})


def test_a_choice_belongs_to_the_picture_at_start() -> None:
    box = DEFAULTS.changed({"start": 1, "subject_box": "0,0,0.5,0.5"})
    assert box.changed({"start": "1.0", "fps": 5}).subject_box == "0,0,0.5,0.5"
    assert box.changed({"start": 2}).subject_box is None
    assert box.changed({"start": 2, "subject_box": "0,0,1,0.5"}).subject_box == "0,0,1,0.5"


NUMBERS = st.lists(st.floats(-0.5, 1.5).map(repr) | st.text("0123456789.eE+- ", max_size=6))


@settings(deadline=None)
@given(st.sampled_from(["subject_box", "subject_point"]), NUMBERS.map(",".join) | st.text())
@example("subject_box", "0," * 3 + "9" * 400)
@example("subject_box", "0,0,1,1\n")
def test_any_text_is_a_choice_in_its_one_form_or_an_error(name: str, text: str) -> None:
    try:
        kept = getattr(DEFAULTS.changed({name: text}), name)
    except InvalidParameter:
        return
    pattern = REQUEST_FIELDS[name]["pattern"]
    assert re.fullmatch(pattern, text)  # what OpenAPI promises
    if kept is not None:
        numbers = [float(number) for number in kept.split(",")]
        assert all(0 <= number <= 1 for number in numbers) and re.fullmatch(pattern, kept)
        assert getattr(DEFAULTS.changed({name: kept}), name) == kept
