"""The model's weights: their sources and revisions, and the check that they are complete.

They are in the Hugging Face cache (HF_HOME), never in upstream's cwd-relative folders. A complete
set is used without network; missing or incomplete files are downloaded again.
`python -m upstream.weights` does the same with a progress bar, before the server's first start.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import WeightsUnavailable
from upstream.huggingface import Download, download_all, find_on_disk

log = logging.getLogger(__name__)

OnBytes = Callable[[int, int], None]
"""Called with bytes done and bytes in total during a download; an exception stops waiting."""


@dataclass(frozen=True)
class Source:
    """One repository on huggingface.co.

    `setting` is the environment variable with its revision; each of `folders` must contain a
    weights file. `runs_code`: transformers executes Python files of it.
    """

    name: str
    repo_id: str
    setting: str
    patterns: tuple[str, ...]
    folders: tuple[str, ...]
    runs_code: bool = False

    @property
    def commits_page(self) -> str:
        """The page with the commit ids for `setting`."""
        return f"https://huggingface.co/{self.repo_id}/commits/main"


SOURCES = (
    Source(
        "actionmesh",
        "facebook/ActionMesh",
        "ACTIONMESH_REVISION",
        ("denoiser/*", "autoencoder/*"),
        ("denoiser", "autoencoder"),
    ),
    Source(
        "triposg",
        "VAST-AI/TripoSG",
        "TRIPOSG_REVISION",
        (
            "model_index.json",
            "transformer/*",
            "vae/*",
            "scheduler/*",
            "image_encoder_dinov2/*",
            "feature_extractor_dinov2/*",
        ),
        ("transformer", "vae", "image_encoder_dinov2"),
    ),
    Source(
        "dinov2",
        "facebook/dinov2-large",
        "DINOV2_REVISION",
        ("config.json", "preprocessor_config.json", "model.safetensors"),
        (".",),
    ),
    Source(
        "rmbg",
        "briaai/RMBG-1.4",
        "RMBG_REVISION",
        ("config.json", "*.py", "model.safetensors"),
        (".",),
        runs_code=True,
    ),
)


@dataclass(frozen=True)
class Folders:
    """A complete folder of weights for each source, by the source's name."""

    actionmesh: Path
    triposg: Path
    dinov2: Path
    rmbg: Path


def ensure_weights(revisions: Mapping[str, str], on_bytes: OnBytes) -> Folders:
    """Find or download every source. `revisions` maps a source's name to a commit, or to "".

    "" means the cached revision, else the newest one, which the cache then keeps. RMBG needs a
    commit, because its code runs here. Raises WeightsUnavailable.
    """
    wanted = {source.name: _revision_of(source, revisions) for source in SOURCES}
    found: dict[str, Path] = {}
    missing: list[Source] = []
    for source in SOURCES:
        folder = find_on_disk(_download_of(source, wanted[source.name]))
        if folder is not None and not (incomplete := incomplete_files(folder, source)):
            found[source.name] = folder
            continue
        if folder is not None:
            log.warning(
                "weights of %s are incomplete and downloaded again: %s", source.name, incomplete
            )
            remove_incomplete(folder, incomplete)
        missing.append(source)
    if missing:
        requests = [_download_of(source, wanted[source.name]) for source in missing]
        found.update(download_all(requests, on_bytes))
    for source in missing:
        if incomplete := incomplete_files(found[source.name], source):
            raise WeightsUnavailable(
                f"The weights {source.repo_id} are incomplete: {', '.join(incomplete)}",
                hint=f"Run `make actionmesh` again; is {source.setting} right?",
            )
    for source in SOURCES:
        if source.runs_code:
            _refuse_foreign_code(found[source.name], source)
    return Folders(**found)


def incomplete_files(folder: Path, source: Source) -> list[str]:
    """Names of missing or truncated files in a source's folder; empty if it is complete.

    The header of a safetensors file has its length, so that the file need not be read.
    """
    bad = [pattern for pattern in source.patterns if not any(folder.glob(pattern))]
    for name in source.folders:
        weights = [
            path
            for pattern in ("*.safetensors", "*.bin")
            for path in sorted((folder / name).glob(pattern))
        ]
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
    """The names of the tensors in a complete safetensors file."""
    return set(_header(path)[1])


def remove_incomplete(folder: Path, names: list[str]) -> None:
    """Remove incomplete files and their cached blobs: the next download replaces them."""
    for name in names:
        path = folder / name
        if path.is_symlink() or path.exists():
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _download_of(source: Source, revision: str) -> Download:
    return Download(source.name, source.repo_id, revision, source.patterns)


def _revision_of(source: Source, revisions: Mapping[str, str]) -> str:
    revision = revisions.get(source.name, "")
    if source.runs_code and not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise WeightsUnavailable(
            f"{source.setting} must name a commit of {source.repo_id}: Python files of that "
            "repository run on this server",
            hint=f"Set {source.setting} to a 40-digit commit id of {source.commits_page}",
        )
    return revision


def _refuse_foreign_code(folder: Path, source: Source) -> None:
    """Refuse a config that uses code of another, unpinned repository ("owner/name--file.Class")."""
    code = json.loads((folder / "config.json").read_text()).get("auto_map", {})
    if foreign := [str(place) for place in code.values() if "--" in str(place)]:
        raise WeightsUnavailable(
            f"The weights {source.repo_id} ask for code of another repository: {foreign[0]}",
            hint=f"Set {source.setting} to a commit of {source.commits_page} that does not.",
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
    import os
    import sys

    from settings import Settings, SettingsError

    def bar(done: int, total: int) -> None:
        share = min(1.0, done / total) if total else 0.0
        filled = "#" * int(40 * share)
        sys.stderr.write(f"\r[{filled:<40}] {done / 1e9:6.2f} of {total / 1e9:6.2f} GB")
        sys.stderr.flush()

    try:
        settings = Settings.from_environment(os.environ)
        folders = ensure_weights(settings.weight_revisions, bar)
    except SettingsError as exc:
        sys.exit(str(exc))
    except WeightsUnavailable as exc:
        sys.exit(f"\n{exc.message}. {exc.hint}")
    sys.stderr.write(f"\nthe weights are complete, under {folders.actionmesh.parents[2]}\n")


if __name__ == "__main__":
    main()
