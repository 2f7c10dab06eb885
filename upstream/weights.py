"""The models' weights: found on disk or downloaded, and checked for completeness.

They are in the Hugging Face cache (HF_HOME), never in upstream's cwd-relative folders. A complete
set is used without network; missing or incomplete files are downloaded again.
`python -m upstream.weights` does the same with a progress bar, before the server's first start.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from errors import WeightsUnavailable
from settings import Settings, SettingsError
from upstream.download_errors import unavailable
from upstream.huggingface import download_all, find_on_disk, remove_cached
from upstream.sources import SOURCES, Source

log = logging.getLogger(__name__)

OnBytes = Callable[[int, int], None]
"""Called with bytes done and bytes in total during a download; an exception stops waiting."""

DEFAULT_REVISIONS: Mapping[str, str] = Settings().weight_revisions


@dataclass(frozen=True)
class Folders:
    """A complete folder of weights for each source, by the source's name; None for an optional
    one that cannot be had."""

    actionmesh: Path
    triposg: Path
    dinov2: Path
    rmbg: Path
    sam2: Path | None = None


def ensure_weights(revisions: Mapping[str, str], on_bytes: OnBytes) -> Folders:
    """Find or download every source. `revisions` maps a source's name to a commit.

    A source that is not named is used at its default revision. RMBG needs a commit, because its
    code runs here. Raises WeightsUnavailable; for an optional source only the log says why.
    """
    wanted = {**DEFAULT_REVISIONS, **revisions}
    sources = [_at_revision(source, wanted[source.name]) for source in SOURCES]
    found = _find_or_download([source for source in sources if not source.optional], on_bytes)
    for source in sources:
        if source.optional:
            try:
                found |= _find_or_download([source], on_bytes)
            except WeightsUnavailable as exc:
                log.warning("it works without %s: %s %s", source.repo_id, exc.message, exc.hint)
    return Folders(**found)


def incomplete_files(folder: Path, source: Source) -> list[str]:
    """Names of missing or truncated files in a source's folder; empty if it is complete.

    The header of a safetensors file has its length, so that the file need not be read.
    """
    bad = [pattern for pattern in source.patterns if not any(folder.glob(pattern))]
    for name in source.folders:
        held = folder / name
        weights = [*sorted(held.glob("*.safetensors")), *sorted(held.glob("*.bin"))]
        if not weights:
            bad.append(f"{name}/*.safetensors")
        bad += [str(path.relative_to(folder)) for path in weights if not _is_whole(path)]
    for path in sorted(folder.rglob("*.json")):
        try:
            json.loads(path.read_text())
        except (OSError, ValueError):
            bad.append(str(path.relative_to(folder)))
    return bad


def tensor_names(path: Path) -> set[str]:
    return set(_header(path)[1])


def _find_or_download(sources: Sequence[Source], on_bytes: OnBytes) -> dict[str, Path]:
    """A complete folder for each source, by name."""
    found: dict[str, Path] = {}
    for source in sources:
        try:
            if folder := _find_complete(source):
                found[source.name] = folder
        except OSError as exc:  # files of another user
            raise unavailable(source, exc) from exc
    missing = [source for source in sources if source.name not in found]
    if missing:
        found.update(download_all(missing, on_bytes))
    for source in missing:
        if bad := incomplete_files(found[source.name], source):
            raise WeightsUnavailable(
                f"The weights {source.repo_id} are incomplete: {', '.join(bad)}",
                hint=f"Run `make actionmesh` again; is {source.setting} right?",
            )
    for source in sources:
        if source.runs_code:
            _refuse_foreign_code(found[source.name], source)
    return found


def _find_complete(source: Source) -> Path | None:
    """The folder of a complete source; of an incomplete one the bad files are removed."""
    folder = find_on_disk(source)
    if folder is None or not (bad := incomplete_files(folder, source)):
        return folder
    log.warning("weights of %s are incomplete and downloaded again: %s", source.name, bad)
    for name in bad:
        if os.path.lexists(folder / name):  # else it is the pattern of a missing file
            remove_cached(folder / name)
    return None


def _at_revision(source: Source, revision: str) -> Source:
    if source.runs_code and not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise WeightsUnavailable(
            f"{source.setting} must name a commit of {source.repo_id}: Python files of that "
            "repository run on this server",
            hint=f"Set {source.setting} to a 40-digit commit id of {source.page}/commits/main",
        )
    by_default = revision == DEFAULT_REVISIONS[source.name]
    return replace(source, revision=revision, newest_allowed=by_default and not source.runs_code)


def _refuse_foreign_code(folder: Path, source: Source) -> None:
    """Refuse a config that uses code of another, unpinned repository ("owner/name--file.Class")."""
    code = json.loads((folder / "config.json").read_text()).get("auto_map", {})
    if foreign := [str(place) for place in code.values() if "--" in str(place)]:
        raise WeightsUnavailable(
            f"The weights {source.repo_id} ask for code of another repository: {foreign[0]}",
            hint=f"Set {source.setting} to a commit of {source.page}/commits/main that does not.",
        )


def _is_whole(path: Path) -> bool:
    try:
        size = path.stat().st_size
        if path.suffix != ".safetensors":
            return size > 0
        start, tensors = _header(path)
        ends = [tensor["data_offsets"][1] for tensor in tensors.values()]
        return bool(start + max(ends, default=0) == size)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Offset of a safetensors file's values, and the header entry of each tensor, by name.

    Format: https://huggingface.co/docs/safetensors, 8 bytes of length and that much JSON.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= 100_000_000:
            raise ValueError(f"a header of {length} bytes")
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return 8 + length, header


def main() -> None:
    """Download what is missing, with a bar on the terminal."""
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # the hub's own would break ours
    # a package that we do not install; what it downloads cannot be continued
    os.environ.pop("HF_HUB_ENABLE_HF_TRANSFER", None)
    try:
        settings = Settings.from_environment(os.environ)
        os.environ.pop("HF_HOME", None)
        if settings.hf_home:  # huggingface_hub takes an empty value for the working directory
            os.environ["HF_HOME"] = str(settings.hf_home)
        folders = ensure_weights(settings.weight_revisions, _show)
    except SettingsError as exc:
        sys.exit(str(exc))
    except KeyboardInterrupt:
        sys.exit("\nstopped; the same command continues")
    except WeightsUnavailable as exc:
        sys.exit(f"\n{exc.message.rstrip('.')}. {exc.hint}")
    sys.stderr.write(f"\nthe weights are complete, under {folders.actionmesh.parents[2]}\n")


def _show(done: int, total: int) -> None:
    """A bar that is drawn over itself; where nobody watches, one line at the end."""
    if not sys.stderr.isatty() and done < total:
        return
    filled = "#" * int(40 * done / total if total else 0)
    sys.stderr.write(f"\r[{filled:<40}] {done / 1e6:,.0f} of {total / 1e6:,.0f} MB")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
