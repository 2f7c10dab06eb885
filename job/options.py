"""The options of a job, in one model: parsed, checked, documented, stored, sent to the child.

Names, ranges, defaults and help texts are here and nowhere else. A form sends text, JSON sends
numbers and booleans; both mean the same. api/modes.py decides which of them this machine supports;
the API, the store and the child all use this file.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.json_schema import SkipJsonSchema

from errors import InvalidParameter
from job.subject_choice import (
    BOX,
    POINT,
    NotAChoice,
    as_numbers,
    parse_box,
    parse_point,
    pattern,
)
from pipeline import Mode, SubjectChoice, frame_step
from video.sampling import DEFAULT_FRAMES, MAX_FRAMES, MIN_FRAMES, FrameRequest

RETRY: dict[str, Any] = {"x-retry": True}
"""Marks what a retry may change."""

_TRUE, _FALSE = ("true", "1", "on", "yes"), ("false", "0", "off", "no")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,20}", re.ASCII)


# --- from a form's text or a JSON value to the field's type; each raises ValueError


def _number_like(value: Any, pattern: re.Pattern[str]) -> Any:
    """A number, or text that pydantic reads as one; pydantic alone would take true and 1_0 too."""
    if isinstance(value, str):
        value = value.strip()
        is_number = pattern.fullmatch(value) is not None
    else:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number:
        raise ValueError(value)
    return value


def _flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in (*_TRUE, *_FALSE):
        raise ValueError(value)
    return text in _TRUE


def _split_list(value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, (list, tuple)) else str(value).split(",")
    return tuple(dict.fromkeys(str(name).strip().lower() for name in names))


Number = BeforeValidator(partial(_number_like, pattern=_NUMBER))
WholeNumber = BeforeValidator(partial(_number_like, pattern=_WHOLE))
Flag = Annotated[bool, BeforeValidator(_flag)]
Format = Literal["usdz", "npz", "skinned", "compact", "fbx", "abc"]
Formats = Annotated[tuple[Format, ...], BeforeValidator(_split_list)]
Address = Annotated[
    str, Field(json_schema_extra={"format": "uri", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"})
]
"""intake/url_guard.py checks it."""
SubjectBox = Annotated[
    str,
    BeforeValidator(parse_box),
    Field(json_schema_extra={"pattern": pattern(BOX), "examples": ["0.25,0.1,0.75,0.9"]}),
]
SubjectPoint = Annotated[
    str,
    BeforeValidator(parse_point),
    Field(json_schema_extra={"pattern": pattern(POINT), "examples": ["0.5,0.4"]}),
]
_WITH_BLENDER: tuple[Format, ...] = ("fbx", "abc")
"""What `blender_export` stands for."""
CHOICES = ("subject_box", "subject_point")
MAX_TRIES = 8


class JobOptions(BaseModel):
    """What the client asked for, with defaults. If `mesh`, the client's own mesh is animated."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    mode: Mode = Field(
        description="Default: the best that this machine's GPU memory allows.",
        json_schema_extra=RETRY,
    )
    seed: Annotated[int, Field(ge=0, le=2**32 - 1), WholeNumber] = Field(
        default=44,
        description="The same seed gives the same mesh. ActionMesh makes another one of another "
        "seed; a silhouette does not depend on it.",
        json_schema_extra=RETRY,
    )
    start: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False), Number] = Field(
        default=0.0, description="Skip so many seconds of the video.", json_schema_extra=RETRY
    )
    fps: Annotated[float, Field(ge=1, le=60, allow_inf_nan=False), Number] | None = Field(
        default=None,
        description="Frames per second to take from the video. Default: spread over the clip.",
        json_schema_extra=RETRY,
    )
    max_frames: Annotated[int, Field(ge=MIN_FRAMES, le=MAX_FRAMES), WholeNumber] = Field(
        default=DEFAULT_FRAMES,
        description="At most so many frames are used. ActionMesh takes 16, 31, 46 ... or 121 of "
        "them, every 15 further ones for the time of one more window.",
        json_schema_extra=RETRY,
    )
    faces: Annotated[int, Field(ge=1_000, le=100_000), WholeNumber] | None = Field(
        default=None,
        description="About how many triangles the mesh shall have. Default: what the mode says. "
        "A `mesh` of your own keeps its triangles.",
        json_schema_extra=RETRY,
    )
    subject_box: SubjectBox | None = Field(
        default=None,
        description="The subject is in this box: left, top, right, bottom as fractions of the "
        "picture at `start`, from its upper left corner. `0,0,1,1` chooses nothing. With `start`, "
        "a retry of a job that had a choice needs a new one.",
        json_schema_extra=RETRY,
    )
    subject_point: SubjectPoint | None = Field(
        default=None,
        description="The subject is what is at this point: x, y as fractions of the picture at "
        "`start`. Not together with `subject_box`; in a retry one replaces the other.",
        json_schema_extra=RETRY,
    )
    texture: Literal["auto", "none"] = Field(
        default="auto",
        description="`auto`: a result without a texture gets the colours of the video. `none` "
        "leaves it as it is.",
        json_schema_extra=RETRY,
    )
    tries: Annotated[int, Field(ge=1, le=MAX_TRIES), WholeNumber] = Field(
        default=1,
        description="ActionMesh makes so many first shapes, from the seeds `seed`, `seed` + 1, "
        "..., and moves the one whose outline fits the first frame best. Not together with a "
        "`mesh`. A silhouette is the same with every seed, so that `tries` is 1 there.",
        json_schema_extra=RETRY,
    )
    blender_export: Flag = Field(
        default=False, description="The same as `fbx` and `abc` in `formats`."
    )
    formats: Formats = Field(
        default=(),
        description=f"More formats, with commas between: {', '.join(get_args(Format))}. "
        "`skinned`: an animated .glb whose mesh is moved by bones; with `usdz` and `fbx` also in "
        "these formats. `compact`: a small .glb for the web, which needs a decoder. `fbx` and "
        "`abc` need Blender on the server.",
    )
    video_url: Address | None = Field(
        default=None, description="A public http or https address of the video, instead of `file`."
    )
    webhook_url: Address | None = Field(
        default=None, description="Receives one POST when the job has ended."
    )
    mesh: SkipJsonSchema[bool] = False  # set by the server: no field of a request

    @property
    def all_formats(self) -> frozenset[Format]:
        """What `formats` and `blender_export` ask for together."""
        return frozenset((*self.formats, *(_WITH_BLENDER if self.blender_export else ())))

    @property
    def needs_skin(self) -> bool:
        """True if one of the files may have bones."""
        return not self.all_formats.isdisjoint(("skinned", "compact"))

    @property
    def subject_choice(self) -> SubjectChoice | None:
        """None if the client leaves the choice to the pipeline."""
        if self.subject_point:
            x, y = as_numbers(self.subject_point)
            return SubjectChoice(point=(x, y))
        if self.subject_box and self.subject_box != "0,0,1,1":
            left, top, right, bottom = as_numbers(self.subject_box)
            return SubjectChoice(box=(left, top, right, bottom))
        return None

    @property
    def time_share(self) -> float:
        """How many times JOB_TIMEOUT an attempt may take: more than once for a longer clip."""
        return max(1.0, self.max_frames / DEFAULT_FRAMES)

    def frame_request(self, pipeline: str) -> FrameRequest:
        """Which frames the pipeline of this name takes."""
        return FrameRequest(self.start, self.fps, self.max_frames, frame_step(pipeline))

    def changed(self, given: Mapping[str, Any]) -> JobOptions:
        """A copy with the options that a request gives. Raises InvalidParameter.

        None and empty text count as not given. The caller has checked the names.
        """
        found = {name: value for name, value in given.items() if value not in (None, "")}
        before = self.model_dump()
        if any(name in found for name in CHOICES):  # one replaces the other
            before.update(dict.fromkeys(CHOICES))
        try:
            options = JobOptions.model_validate({**before, **found})
        except ValidationError as exc:
            error = exc.errors()[0]
            name, reason = str(error["loc"][0]), error.get("ctx", {}).get("error")
            if isinstance(reason, NotAChoice):
                raise InvalidParameter(f"{name} {reason}", field=name) from None
            raise _invalid(name, found.get(name)) from None
        if options.mesh and options.tries > 1:
            raise InvalidParameter(
                f"tries is {options.tries}, but there is a `mesh`: no other shape is made.",
                hint="Leave `tries` out.",
                field="tries",
            )
        return options._with_one_choice(self, found)

    def _with_one_choice(self, old: JobOptions, found: Mapping[str, Any]) -> JobOptions:
        """Raises InvalidParameter for two; an old choice was made in the picture at its `start`."""
        if self.subject_box and self.subject_point:
            raise InvalidParameter(
                f"There are a subject_box, {self.subject_box}, and a subject_point, "
                f"{self.subject_point}; only one of them can be given.",
                field="subject_point",
            )
        if self.start != old.start and not any(name in found for name in CHOICES):
            return self.model_copy(update=dict.fromkeys(CHOICES))
        return self


def _request_fields() -> dict[str, dict[str, Any]]:
    """The JSON schema of each field of a request; null counts as not given, so it is left out."""
    fields = {}
    for name, found in JobOptions.model_json_schema()["properties"].items():
        either = found.pop("anyOf", [{}])[0]
        field = {**either, **found}
        del field["title"]
        if field.get("default", 0) is None:
            del field["default"]
        fields[name] = field
    return fields


def as_text(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list in a form, where it is one text with commas between."""
    one = f"({'|'.join(field['items']['enum'])})"
    pattern = f"^({one}(,{one})*)?$"
    return {"type": "string", "pattern": pattern, "description": field["description"]}


REQUEST_FIELDS = _request_fields()
RETRY_FIELDS = {name: field for name, field in REQUEST_FIELDS.items() if "x-retry" in field}


def check_names(names: Iterable[str], known: Iterable[str], kind: str = "field") -> None:
    """Raise InvalidParameter for the first unknown name, with the nearest known one."""
    known = tuple(known)
    for name in names:
        if name not in known:
            shown = json.dumps(name[:80], ensure_ascii=False)
            words = f"There is no {kind} {shown}. {_did_you_mean(name, known, 0.6) or ''}".rstrip()
            raise InvalidParameter(words, field=name[:80], fields=list(known))


def _invalid(name: str, value: object) -> InvalidParameter:
    field = REQUEST_FIELDS[name]
    shown = json.dumps(value, ensure_ascii=False, default=str)[:80]
    known = field.get("enum", ())
    hint = _did_you_mean(value, known, 0.5) if isinstance(value, str) else None
    return InvalidParameter(f"{name} must be {_need(field)}, not {shown}.", hint=hint, field=name)


def _need(field: Mapping[str, Any]) -> str:
    """What a field's value must be, in words."""
    if "enum" in field:
        return f"one of {', '.join(field['enum'])}"
    if "minimum" in field:
        kind = "a whole number" if field["type"] == "integer" else "a number"
        return f"{kind} from {field['minimum']} to {field['maximum']}"
    if field["type"] == "array":
        return f"a comma list of {', '.join(field['items']['enum'])}"
    return "true or false" if field["type"] == "boolean" else "an http or https address"


def _did_you_mean(name: str, known: Iterable[str], cutoff: float) -> str | None:
    near = difflib.get_close_matches(name[:80].lower(), tuple(known), 1, cutoff)
    return f"Did you mean `{near[0]}`?" if near else None
