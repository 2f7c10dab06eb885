"""The settings of this server: environment variables -> one frozen Settings, read once.

A field is the variable of the same name in upper case (only `api_keys` is API_KEY). An empty value
counts as unset; a wrong one raises SettingsError, whose message names the variable. The first five
are the README's own; docs/api.md and deploy.md list the rest.
"""

# pydantic, not pydantic-settings: with that, a mapping instead of os.environ, one-line messages and
# hidden secrets would need more lines than it saves.

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

NAME = "actionmesh-worker"
VERSION = "1.0.0"
"""Of this server: in /info, in client.py and as the newest heading of CHANGELOG.md."""

GB = 1_000_000_000


_HOST = re.compile(
    r"\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?(:\d+)?|\[[0-9a-f:.]+\](:\d+)?|[0-9a-f:.]+",
    re.IGNORECASE | re.ASCII,
)
"""A name, also `*.name`, or an address, perhaps with a port; or `*`."""


class SettingsError(ValueError):
    """One line that names the variable, the value found and the value needed."""


def _plain_number(text: str) -> str:
    if "_" in text:  # 8_000 is Python's notation; in a variable it is probably a mistake
        raise ValueError(text)
    return text


def _comma_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _host_list(text: str) -> tuple[str, ...]:
    hosts = _comma_list(text)
    if not all(map(_HOST.fullmatch, hosts)):
        raise ValueError(text)
    return hosts


def _program(text: str) -> Path:
    """A bare name is found in PATH when the program is started."""
    return Path(text).expanduser().absolute() if "/" in text else Path(text)


def _pipeline(text: str) -> str:
    if text.lower() in ("auto", "actionmesh", "silhouette"):
        return text.lower()
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text):
        raise ValueError(text)
    return text


SubjectWay = Literal["auto", "model", "rmbg", "sam2"]
"""How ActionMesh's subject is found where the clip has no alpha and the client chose none."""

# Each description completes the sentence "VARIABLE must be ...".
Whole = Annotated[int, BeforeValidator(_plain_number)]
Port = Annotated[Whole, Field(ge=1, le=65535, description="a port from 1 to 65535")]
Count = Annotated[Whole, Field(ge=1, le=10**15, description="a whole number of at least 1")]
Bytes = Annotated[Count, Field(description="a whole number of bytes, at least 1")]
Rate = Annotated[
    Whole, Field(ge=0, le=10**15, description="a whole number of bytes a second, at least 0")
]
Workers = Annotated[int, Field(ge=0, le=10**15, description="a whole number of at least 0")]
Amount = Annotated[float, Field(ge=0, le=1e15, description="a number of at least 0")]
Seconds = Annotated[float, Field(ge=1, le=1e15, description="a number of seconds of at least 1")]
Flag = Annotated[bool, Field(description="0 or 1")]
Commit = Annotated[
    str,
    StringConstraints(pattern="^(?i:[0-9a-f]{40})$", to_lower=True),
    Field(description="a commit id of 40 hexadecimal digits"),
]
AbsolutePath = Annotated[
    Path, AfterValidator(lambda path: path.expanduser().absolute()), Field(description="a folder")
]
Program = Annotated[
    Path, BeforeValidator(_program), Field(description="the path of a Blender executable")
]
SubjectModel = Annotated[
    Path,
    AfterValidator(lambda path: path.expanduser().absolute()),
    Field(description="the path of u2netp.onnx"),
]
UrlPath = Annotated[
    str,
    StringConstraints(pattern="^/"),
    AfterValidator(lambda text: text.rstrip("/")),
    Field(description="a path that starts with /"),
]
# at least one: a value of only commas must not mean "no keys"
CommaList = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(_comma_list)]


@dataclass(frozen=True)
class Settings:
    """Every setting with its default. Times in seconds, sizes in bytes unless the name says so."""

    port: Port = 8000
    jobs_dir: AbsolutePath = Path("/tmp/actionmesh_jobs")
    hf_home: AbsolutePath | None = None
    blender_path: Program | None = None
    max_upload_size: Bytes = 104_857_600

    host: str = "0.0.0.0"
    pipeline: Annotated[
        str,
        BeforeValidator(_pipeline),
        Field(description="auto, actionmesh, silhouette or module:Class"),
    ] = "auto"
    api_keys: Annotated[CommaList, Field(description="a key, or several with commas between")] = ()
    require_auth: Flag = False
    allowed_hosts: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="host names with commas between"),
        BeforeValidator(_host_list),
    ] = ()
    cors_origins: Annotated[CommaList, Field(description="origins with commas between")] = ()
    max_queue: Count = 32
    max_uploads: Count = 8
    min_upload_rate: Rate = 16_384
    job_timeout: Seconds = 1800.0
    job_ttl_hours: Amount = 0.0
    jobs_max_gb: Amount = 0.0
    keep_input: Flag = True
    min_free_gb: Amount = 2.0
    idle_unload_seconds: Amount = 0.0
    child_memory_gb: Amount = 0.0
    child_cores: Workers = 0
    allow_video_url: Flag = True
    allow_private_urls: Flag = False
    webhook_secret: str = ""
    subject: Annotated[
        SubjectWay,
        BeforeValidator(str.lower),
        Field(description="auto, model, rmbg or sam2"),
    ] = "auto"
    subject_model: SubjectModel | None = None
    actionmesh_compile: Flag = False
    actionmesh_fast_math: Flag = False
    actionmesh_any_checkout: Flag = False
    # the commits of the weights that this version was written for
    actionmesh_revision: Commit = "fb69228ba8a4df684907b5d259cff3c22fb722f1"
    triposg_revision: Commit = "2c1c516d22d58db486a058d98d31bb6177344e06"
    dinov2_revision: Commit = "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c"
    rmbg_revision: Commit = "2ceba5a5efaec153162aedea169f76caf9b46cf8"
    sam2_revision: Commit = "ee5bba1d82bb8749febdf90f45e84b687142ba03"
    # never "auto": it may join an old cluster whose files are left in /tmp/ray
    ray_address: Annotated[
        str,
        StringConstraints(pattern=r"^(ray://)?[^\s/:]+:\d{1,5}$"),
        Field(description="host:port or ray://host:port"),
    ] = ""
    gpu_workers: Workers = 0
    accel_prefix: UrlPath = ""
    log_format: Annotated[
        str,
        StringConstraints(pattern="^(?i:auto|text|json)$", to_lower=True),
        Field(description="auto, text or json"),
    ] = "auto"
    root_path: UrlPath = ""

    @property
    def weight_revisions(self) -> dict[str, str]:
        """By the name of each source of ActionMesh's weights."""
        return {
            "actionmesh": self.actionmesh_revision,
            "triposg": self.triposg_revision,
            "dinov2": self.dinov2_revision,
            "rmbg": self.rmbg_revision,
            "sam2": self.sam2_revision,
        }

    def child_environment(self, *, with_paths: bool = True) -> dict[str, str]:
        """The variables that the child reads with `from_environment`; not those at their default.

        Paths are valid on this machine only.
        """
        values = {name: getattr(self, name.lower()) for name in CHILD_VARIABLES}
        return {
            name: "1" if value is True else str(value)
            for name, value in values.items()
            if value != getattr(Settings, name.lower())
            and (with_paths or not isinstance(value, Path))
        }

    @property
    def bound_to_loopback(self) -> bool:
        """True if only this machine can reach the server: every Host must be a local name."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Raises SettingsError for the first wrong value."""
        given = {
            field.name: text
            for field in fields(cls)
            if (text := environ.get(_variable(field.name), "").strip())
        }
        try:
            settings = TypeAdapter(cls).validate_python(given)
        except ValidationError as exc:
            name = str(exc.errors(include_url=False)[0]["loc"][0])
            shown = "the value given" if name in _SECRETS else repr(given[name][:80])
            raise SettingsError(f"{_variable(name)} must be {_needed(name)}, not {shown}") from None
        if settings.require_auth and not settings.api_keys:
            raise SettingsError("REQUIRE_AUTH is set, so API_KEY must hold at least one key")
        return settings


_SECRETS = ("api_keys", "webhook_secret")

CHILD_VARIABLES = (
    "HF_HOME", "SUBJECT", "SUBJECT_MODEL",
    "ACTIONMESH_COMPILE", "ACTIONMESH_FAST_MATH", "ACTIONMESH_ANY_CHECKOUT",
    "ACTIONMESH_REVISION", "TRIPOSG_REVISION", "DINOV2_REVISION", "RMBG_REVISION", "SAM2_REVISION",
)  # fmt: skip
"""The settings that the pipeline reads in the child process (a test checks this list)."""


def _variable(name: str) -> str:
    return "API_KEY" if name == "api_keys" else name.upper()


def _needed(name: str) -> str:
    found = TypeAdapter(get_type_hints(Settings, include_extras=True)[name]).json_schema()
    return str(found["description"])


VARIABLE_NAMES: tuple[str, ...] = tuple(_variable(field.name) for field in fields(Settings))
