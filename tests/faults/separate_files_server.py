"""Runs `main.py` as on a machine with a GPU, where a second child writes the files. Needs no GPU.

`python -m tests.faults.separate_files_server`, with the settings of main.py.
"""

from __future__ import annotations

import os

import uvicorn

from executors.base import ExecutorOptions
from executors.local import LocalExecutor
from job import logs
from job.task import ChildConfig
from main import create_app
from settings import Settings


def main() -> None:
    """Serve until told to stop."""
    settings = Settings.from_environment(os.environ)
    logs.configure(settings.log_format)
    config = ChildConfig(
        settings.pipeline,
        blender_path=str(settings.blender_path or ""),
        environment=settings.child_environment(),
    )
    executor = LocalExecutor(ExecutorOptions(config, separate_files=True))
    app = create_app(settings, executor)
    uvicorn.run(app, host=settings.host, port=settings.port, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
