"""What went wrong with a download of the weights, in words that say what to do.

Maps the errors of huggingface_hub, and of the libraries below it, to WeightsUnavailable. Called by
huggingface.py and weights.py; downloads nothing. The words name no path and no address of a mirror:
clients read them.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from typing import Any

from errors import WeightsUnavailable, is_disk_full
from upstream.sources import Source

log = logging.getLogger(__name__)

_TOKENS = "https://huggingface.co/settings/tokens"


class WrongBytes(OSError):
    """A downloaded file does not have the SHA-256 that the hub lists; it holds the file's name."""


def causes(exc: BaseException) -> Iterator[BaseException]:
    """The exception, then what it was raised from."""
    cause: BaseException | None = exc
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def is_full_disk(exc: BaseException) -> bool:
    """True if the disk or a quota is full. hf_xet tells it in words only."""
    return any(
        (isinstance(cause, OSError) and is_disk_full(cause))
        or "No space left on device" in str(cause)
        for cause in causes(exc)
    )


def no_space(missing_bytes: int, free_bytes: int) -> WeightsUnavailable:
    needed, free = missing_bytes / 1e9, free_bytes / 1e9
    return WeightsUnavailable(
        f"The disk of HF_HOME is too full for the weights: {needed:.2f} GB are missing, "
        f"and {free:.2f} GB are free.",
        hint="Free space there, or set HF_HOME to a folder on another disk.",
        needed_gb=round(needed, 2),
        free_gb=round(free, 2),
    )


def unavailable(source: Source, exc: Exception) -> WeightsUnavailable:
    """The log gets the error itself."""
    log.warning("cannot download %s: %s: %s", source.repo_id, type(exc).__name__, exc)
    why, hint = _words(source, exc)
    return WeightsUnavailable(
        f"The weights {source.repo_id} are not on disk and cannot be fetched: {why}.", hint=hint
    )


def _words(source: Source, exc: Exception) -> tuple[str, str]:
    """What happened, and what to do."""
    from huggingface_hub.errors import RevisionNotFoundError

    found = list(causes(exc))
    replies: list[Any] = [getattr(cause, "response", None) for cause in found]
    status = next((reply.status_code for reply in replies if reply is not None), None)
    if status in (401, 403):
        return _refused(source, status, found)
    if any(isinstance(cause, RevisionNotFoundError) for cause in found):
        return (
            f"it has no revision {source.revision or 'main'}",
            f"Set {source.setting} to a commit of {source.page}/commits/main.",
        )
    if status == 404:
        return f"{_hub()} has no such repository", f"Look at {source.page}: was it renamed?"
    if status == 429:
        hint = "Wait some minutes; with HF_TOKEN the limit is higher."
        return f"{_hub()} got too many requests from here (HTTP 429)", hint
    if status is not None:
        hint = "Try again later; https://status.huggingface.co tells whether it is down."
        return f"{_hub()} answered HTTP {status}", hint
    return _without_reply(source, found)


def _without_reply(source: Source, found: list[BaseException]) -> tuple[str, str]:
    """The disk, a setting or the network failed."""
    from huggingface_hub import constants
    from huggingface_hub.errors import OfflineModeIsEnabled

    for cause in found:
        if isinstance(cause, WrongBytes):
            return (
                f"{cause} arrived with the wrong SHA-256 and was removed",
                "Start again, and it is fetched again. A proxy or a bad disk may change files.",
            )
        if isinstance(cause, OSError) and cause.filename is not None:
            return (
                f"HF_HOME cannot be written ({type(cause).__name__})",
                "Give the folder to this user, or set HF_HOME to another one.",
            )
        if isinstance(cause, OfflineModeIsEnabled):
            return (
                "HF_HUB_OFFLINE is set",
                "Unset it, copy a complete HF_HOME to the server, or name the revision that is "
                f"there: {source.setting}.",
            )
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {_hub()} is not trusted",
                "If a proxy opens encrypted connections here, set REQUESTS_CA_BUNDLE and "
                "SSL_CERT_FILE to a file with its certificate.",
            )
    if not constants.ENDPOINT.startswith(("http://", "https://")):
        hint = "Unset HF_ENDPOINT, or set it to an address that starts with https://."
        return "HF_ENDPOINT is not an address", hint
    return (
        f"the network failed ({type(found[0]).__name__})",
        "Let the server reach huggingface.co, by a proxy (HTTPS_PROXY) or a mirror (HF_ENDPOINT) "
        "if need be, or copy a complete HF_HOME to it.",
    )


def _refused(source: Source, status: int, found: list[BaseException]) -> tuple[str, str]:
    """HTTP 401 or 403: a gate, a token without rights, or a token that is no longer valid."""
    from huggingface_hub.errors import GatedRepoError

    gated = any(isinstance(cause, GatedRepoError) for cause in found)
    has_token = _has_token()
    refused = f"{_hub()} refused (HTTP {status})"
    if has_token and status == 401 and not gated:
        return (
            f"{refused}: the token is expired or wrong",
            f"Set HF_TOKEN to a new one of {_TOKENS}, or unset it; `hf auth logout` removes a "
            "saved one.",
        )
    terms = f"accept the terms on {source.page}"
    if has_token:
        return (
            f"{refused}: the token's account has no access",
            f"As the owner of HF_TOKEN, {terms}; the token must be allowed to read gated "
            f"repositories ({_TOKENS}).",
        )
    return (
        f"{refused}: access needs an account",
        f"With an account, {terms}, and set HF_TOKEN to a token of {_TOKENS}.",
    )


def _has_token() -> bool:
    """True if the requests carry HF_TOKEN or a token that a login saved."""
    from huggingface_hub import get_token

    try:
        return get_token() is not None
    except OSError:  # the file of a saved token cannot be read
        return False


def _hub() -> str:
    """Who was asked."""
    from huggingface_hub import constants

    is_default = constants.ENDPOINT == "https://huggingface.co"
    return "huggingface.co" if is_default else "the mirror in HF_ENDPOINT"
