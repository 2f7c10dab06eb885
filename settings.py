"""How this server is set: environment variables -> one frozen Settings, read once. A leaf.

An empty value counts as unset; a wrong one raises SettingsError, whose message names the variable.
The first five variables are the README's own; docs/api.md and deploy.md list the rest.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

GB = 1_000_000_000


class SettingsError(ValueError):
    """One line that names the variable, the value found and the value needed."""


@dataclass(frozen=True)
class Settings:
    """Every setting with its default. Times in seconds, sizes in bytes unless the name says so."""

    port: int = 8000
    jobs_dir: Path = Path("/tmp/actionmesh_jobs")
    hf_home: Path | None = None
    blender_path: Path | None = None
    max_upload_size: int = 104_857_600

    host: str = "0.0.0.0"
    pipeline: str = "auto"
    api_keys: tuple[str, ...] = ()
    require_auth: bool = False
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_queue: int = 32
    max_uploads: int = 8
    job_timeout: float = 1800.0
    job_ttl_hours: float = 0.0
    jobs_max_gb: float = 0.0
    keep_input: bool = True
    min_free_gb: float = 2.0
    idle_unload_seconds: float = 0.0
    allow_video_url: bool = True
    allow_private_urls: bool = False
    webhook_secret: str = ""
    actionmesh_compile: bool = False
    actionmesh_any_checkout: bool = False
    actionmesh_revision: str = ""
    triposg_revision: str = ""
    dinov2_revision: str = ""
    rmbg_revision: str = ""
    ray_address: str = ""
    gpu_workers: int = 0
    accel_prefix: str = ""
    log_format: str = "auto"
    root_path: str = ""

    @property
    def weight_revisions(self) -> dict[str, str]:
        """By the name of each source of ActionMesh's weights; "" where none is set."""
        return {
            "actionmesh": self.actionmesh_revision,
            "triposg": self.triposg_revision,
            "dinov2": self.dinov2_revision,
            "rmbg": self.rmbg_revision,
        }

    def child_environment(self, *, with_paths: bool = True) -> dict[str, str]:
        """What the process that runs jobs reads back with `from_environment`; only what is set.

        Paths hold on this machine only.
        """
        values = {name: getattr(self, _VARIABLES[name][0]) for name in CHILD_VARIABLES}
        return {
            name: "1" if value is True else str(value)
            for name, value in values.items()
            if value and (with_paths or not isinstance(value, Path))
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
        found: dict[str, Any] = {}
        for variable, (field, parse, need) in _VARIABLES.items():
            text = environ.get(variable, "").strip()
            if not text:
                continue
            try:
                found[field] = parse(text)
            except ValueError:
                shown = "the value given" if variable in _SECRETS else repr(text[:80])
                raise SettingsError(f"{variable} must be {need}, not {shown}") from None
        settings = cls(**found)
        if settings.require_auth and not settings.api_keys:
            raise SettingsError("REQUIRE_AUTH is set, so API_KEY must hold at least one key")
        return settings


def _flag(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(text)


def _at_least(low: float, kind: Callable[[str], T]) -> Callable[[str], T]:
    def parse(text: str) -> T:
        number = kind(text)
        # `not >=` also refuses NaN
        if not float(number) >= low or float(number) > 1e15:  # type: ignore[arg-type]
            raise ValueError(text)
        return number

    return parse


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(text)
    return int(text)


def _ray_address(text: str) -> str:
    # never "auto": it joins whatever an unclean exit left in /tmp/ray
    if not re.fullmatch(r"(ray://)?[^\s/:]+:\d{1,5}", text):
        raise ValueError(text)
    return text


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(text)
        return text.lower()

    return parse


def _pipeline(text: str) -> str:
    if text.lower() in ("auto", "actionmesh", "silhouette"):
        return text.lower()
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text):
        raise ValueError(text)
    return text


def _comma_list(text: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(",") if part.strip())
    if not parts:  # a lone comma is no way to have no keys
        raise ValueError(text)
    return parts


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _program(text: str) -> Path:
    return _path(text) if "/" in text else Path(text)  # a bare name is looked up in PATH


def _root_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(text)
    return text.rstrip("/")


def _commit(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", text.lower()):
        raise ValueError(text)
    return text.lower()


_SECRETS = {"API_KEY", "WEBHOOK_SECRET"}
_COUNT = "a whole number of at least 1"
_AMOUNT = "a number of at least 0"
_FLAG = "0 or 1"
_COMMIT = "a commit id of 40 hexadecimal digits"

_VARIABLES: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "PORT": ("port", _port, "a port from 1 to 65535"),
    "JOBS_DIR": ("jobs_dir", _path, "a folder"),
    "HF_HOME": ("hf_home", _path, "a folder"),
    "BLENDER_PATH": ("blender_path", _program, "the path of a Blender executable"),
    "MAX_UPLOAD_SIZE": ("max_upload_size", _at_least(1, int), _COUNT + " (bytes)"),
    "HOST": ("host", str, "an address"),
    "PIPELINE": ("pipeline", _pipeline, "auto, actionmesh, silhouette or module:Class"),
    "API_KEY": ("api_keys", _comma_list, "a key, or several with commas between"),
    "REQUIRE_AUTH": ("require_auth", _flag, _FLAG),
    "ALLOWED_HOSTS": ("allowed_hosts", _comma_list, "host names with commas between"),
    "CORS_ORIGINS": ("cors_origins", _comma_list, "origins with commas between"),
    "MAX_QUEUE": ("max_queue", _at_least(1, int), _COUNT),
    "MAX_UPLOADS": ("max_uploads", _at_least(1, int), _COUNT),
    "JOB_TIMEOUT": ("job_timeout", _at_least(1, float), "a number of seconds of at least 1"),
    "JOB_TTL_HOURS": ("job_ttl_hours", _at_least(0, float), _AMOUNT),
    "JOBS_MAX_GB": ("jobs_max_gb", _at_least(0, float), _AMOUNT),
    "KEEP_INPUT": ("keep_input", _flag, _FLAG),
    "MIN_FREE_GB": ("min_free_gb", _at_least(0, float), _AMOUNT),
    "IDLE_UNLOAD_SECONDS": ("idle_unload_seconds", _at_least(0, float), _AMOUNT),
    "ALLOW_VIDEO_URL": ("allow_video_url", _flag, _FLAG),
    "ALLOW_PRIVATE_URLS": ("allow_private_urls", _flag, _FLAG),
    "WEBHOOK_SECRET": ("webhook_secret", str, "a secret"),
    "ACTIONMESH_COMPILE": ("actionmesh_compile", _flag, _FLAG),
    "ACTIONMESH_ANY_CHECKOUT": ("actionmesh_any_checkout", _flag, _FLAG),
    "ACTIONMESH_REVISION": ("actionmesh_revision", _commit, _COMMIT),
    "TRIPOSG_REVISION": ("triposg_revision", _commit, _COMMIT),
    "DINOV2_REVISION": ("dinov2_revision", _commit, _COMMIT),
    "RMBG_REVISION": ("rmbg_revision", _commit, _COMMIT),
    "RAY_ADDRESS": ("ray_address", _ray_address, "host:port or ray://host:port"),
    "GPU_WORKERS": ("gpu_workers", _at_least(0, int), "a whole number of at least 0"),
    "ACCEL_PREFIX": ("accel_prefix", _root_path, "a path that starts with /"),
    "LOG_FORMAT": ("log_format", _one_of("auto", "text", "json"), "auto, text or json"),
    "ROOT_PATH": ("root_path", _root_path, "a path that starts with /"),
}

CHILD_VARIABLES = (
    "HF_HOME", "ACTIONMESH_COMPILE", "ACTIONMESH_ANY_CHECKOUT", "ACTIONMESH_REVISION",
    "TRIPOSG_REVISION", "DINOV2_REVISION", "RMBG_REVISION",
)  # fmt: skip
"""The settings that the pipeline reads, in the child process (tests hold this against the code)."""

VARIABLE_NAMES: tuple[str, ...] = tuple(_VARIABLES)
