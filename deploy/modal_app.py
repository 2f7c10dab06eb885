"""Modal: the whole server as a web endpoint on one GPU. `modal deploy -m deploy.modal_app`.

Weights are stored on a volume. Jobs are stored on the container's own disk and are lost with it,
because a volume is saved only from time to time and has no file locks. There is one container
because the queue is in one process; deploy.md explains this. Settings and keys are in the secret
`actionmesh`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import modal

ROOT = Path(__file__).resolve().parent.parent
GPU = ["L40S", "A100-40GB"]
"""48 and 40 GB: enough for every mode, and faster than an L4, whose 24 GB suffice too."""
UPSTREAM = "https://github.com/facebookresearch/actionmesh"
COMMIT = "66db12ea7c4a2ab33a2d2bbd9fffbfd1dfdce2ce"
CODE = [
    "*.py", "api/**", "appearance/**", "child/**", "executors/**", "intake/**", "job/**",
    "meshes/**", "silhouette/**", "subject/**", "upstream/**", "video/**", "web/**", "worker/**",
    "deploy/**", "LICENSE", "docs/THIRD_PARTY.md",
]  # fmt: skip
KEPT_WARM_S = 1200
"""Modal's maximum. A job is not a request: only polls and this keep the container running."""
MOST_REQUESTS = 100

weights = modal.Volume.from_name("actionmesh-weights", create_if_missing=True)
image = (
    modal.Image.debian_slim(python_version="3.11")
    .apt_install("git", "g++")
    .add_local_file(ROOT / "requirements/gpu.lock", "/tmp/gpu.lock", copy=True)
    .run_commands(
        "pip install --no-cache-dir --require-hashes -r /tmp/gpu.lock",
        f"git clone {UPSTREAM} /app/actionmesh_repo",
        f"git -C /app/actionmesh_repo checkout --quiet {COMMIT}",
        "git -C /app/actionmesh_repo -c url.https://github.com/.insteadOf=git@github.com: "
        "submodule update --init --recursive",
    )
    .add_local_file(ROOT / "settings.py", "/tmp/model/settings.py", copy=True)
    .add_local_file(ROOT / "subject/model_file.py", "/tmp/model/subject/model_file.py", copy=True)
    .run_commands("cd /tmp/model && python -m subject.model_file")
    .env(
        {
            "HF_HOME": "/weights",
            "JOBS_DIR": "/tmp/jobs",
            "LOG_FORMAT": "json",
            "PYTHONPATH": "/app",
        }
    )
    .workdir("/app")
    .add_local_dir(ROOT, "/app", ignore=~modal.FilePatternMatcher(*CODE))
)
app = modal.App("actionmesh-worker", image=image)


@app.function(  # type: ignore[untyped-decorator]
    gpu=GPU,
    cpu=4.0,
    memory=32_768,
    volumes={"/weights": weights},
    secrets=[modal.Secret.from_name("actionmesh", required_keys=["API_KEY"])],
    max_containers=1,
    scaledown_window=KEPT_WARM_S,
    timeout=24 * 3600,
)
@modal.concurrent(max_inputs=MOST_REQUESTS)  # type: ignore[untyped-decorator]
@modal.asgi_app(label="actionmesh")  # type: ignore[untyped-decorator]
def web() -> Any:
    """The same app as `main.app`."""
    import os

    from job import logs
    from main import create_app
    from settings import Settings

    settings = Settings.from_environment({**os.environ, "REQUIRE_AUTH": "1"})
    logs.configure(settings.log_format)
    return create_app(settings)
