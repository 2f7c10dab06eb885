"""The repositories on huggingface.co that hold the weights, and what we need of each.

Standard library only: install_check.py reads the sizes before any package is installed. Their
revisions are settings (settings.py); weights.py checks and downloads them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One repository, and what is needed of it.

    Each of `folders` must contain a weights file. `size_gb` (1e9 bytes) is that of the files which
    match `patterns`, at the default revision. `runs_code`: transformers executes Python files of
    it. `optional`: jobs are possible without it. `revision` "" means the newest one;
    `newest_allowed`: if the hub no longer has `revision`, the newest one is used instead.
    """

    name: str
    repo_id: str
    size_gb: float
    patterns: tuple[str, ...]
    folders: tuple[str, ...] = (".",)
    runs_code: bool = False
    optional: bool = False
    revision: str = ""
    newest_allowed: bool = False

    @property
    def setting(self) -> str:
        """The environment variable with the revision."""
        return f"{self.name.upper()}_REVISION"

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{self.repo_id}"

    @property
    def cache_folder(self) -> str:
        """Its folder in the hub's cache."""
        return f"models--{self.repo_id.replace('/', '--')}"


SOURCES = (
    Source(
        "actionmesh",
        "facebook/ActionMesh",
        6.62,
        ("denoiser/*", "autoencoder/*"),
        ("denoiser", "autoencoder"),
    ),
    Source(
        "triposg",
        "VAST-AI/TripoSG",
        7.95,
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
        1.22,
        ("config.json", "preprocessor_config.json", "model.safetensors"),
    ),
    Source(
        "rmbg",
        "briaai/RMBG-1.4",
        0.18,
        ("config.json", "*.py", "model.safetensors"),
        runs_code=True,
    ),
    Source(
        "sam2",
        "facebook/sam2.1-hiera-small",
        0.18,
        ("config.json", "model.safetensors"),
        optional=True,
    ),
)

TOTAL_GB = sum(source.size_gb for source in SOURCES)
