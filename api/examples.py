"""Whole replies as examples for /openapi.json. The tests parse each with its model."""

from __future__ import annotations

from typing import Any

EXAMPLE_ID = "5f0c6f0e-3f0b-4c1e-9d3a-2b1a0c9d8e7f"

_JOB_HEAD = {
    "job_id": EXAMPLE_ID,
    "mode": "default",
    "pipeline": "silhouette",
    "options": {
        "start": 0.0, "fps": 10.0, "max_frames": 31, "seed": 44, "blender_export": False,
        "formats": [], "texture": "auto", "tries": 2, "subject_box": None, "subject_point": None,
    },
    "created_at": "2026-11-22T15:00:00.000Z",
    "input": {
        "filename": "cat.mp4", "bytes": 813221, "width": 1280, "height": 720, "source_fps": 30.0,
        "source_frames": 240, "used_frames": 31, "fps": 10.0, "seed": 44,
    },
}  # fmt: skip
JOB_EXAMPLES: dict[str, dict[str, Any]] = {
    "queued": {**_JOB_HEAD, "status": "queued", "queue_position": 0, "eta_seconds": 54.0},
    "running": {
        **_JOB_HEAD,
        "status": "running",
        "started_at": "2026-11-22T15:00:09.100Z",
        "attempt": 1,
        "progress": {
            "percent": 58.3, "stage": "motion", "step": 9, "steps": 15, "message": "Tracking",
            "eta_seconds": 21.0,
        },
        "ready": ["subject.webp", "masks.zip", "anchor.glb"],
        "preview_mesh": f"/outputs/{EXAMPLE_ID}/anchor.glb",
    },
    "finished": {
        **_JOB_HEAD,
        "status": "finished",
        "started_at": "2026-11-22T15:00:09.100Z",
        "outputs": {
            "per_frame_meshes": [f"/outputs/{EXAMPLE_ID}/mesh_000.glb"],
            "animated_mesh": f"/outputs/{EXAMPLE_ID}/animated_mesh.glb",
            "preview_video": f"/outputs/{EXAMPLE_ID}/preview.mp4",
            "archive": f"/outputs/{EXAMPLE_ID}/meshes.zip",
            "poster": f"/outputs/{EXAMPLE_ID}/poster.webp",
            "source_video": f"/outputs/{EXAMPLE_ID}/source.mp4",
            "subject": f"/outputs/{EXAMPLE_ID}/subject.webp",
            "masks": f"/outputs/{EXAMPLE_ID}/masks.zip",
        },
        "files": [{"name": "mesh_000.glb", "bytes": 731204, "sha256": "0" * 64}],
        "mesh": {"timesteps": 31, "vertices": 19874, "faces": 40000, "fps": 10.0},
        "timings": {"queued": 9.1, "extracting": 0.8, "shape": 14.0, "motion": 22.5, "total": 45.0},
        "subject": {"method": "plain_background", "confidence": 0.97, "box": "0.21,0.1,0.64,0.93"},
        "view": {
            "kind": "constant", "azimuth": 78.4, "elevation": 6.1, "roll": -0.7, "distance": 3.61,
            "focal": 1480.2, "centre": [0.0, 0.02, -0.01],
            "matrix": [
                [-323.883, -85.99, -1577.434, 2296.345], [-200.219, -1509.964, -22.638, 1329.573],
                [-0.974, -0.106, -0.2, 3.61],
            ],
        },
        "score": {
            "outline_mean": 0.912, "outline_worst": 0.871, "worst_frame": 17, "motion": 0.64,
            "video_motion": 0.31, "runner_up": 0.74, "outlines": [0.921, 0.871],
        },
        "texture": {
            "state": "baked", "reason": None, "seen": 0.46, "mirrored": 0.38, "filled": 0.16,
        },
        "tries": [
            {
                "seed": 44, "outline": 0.812, "anchor": f"/outputs/{EXAMPLE_ID}/anchor_0.glb",
                "chosen": False,
            },
            {
                "seed": 45, "outline": 0.884, "anchor": f"/outputs/{EXAMPLE_ID}/anchor_1.glb",
                "chosen": True,
            },
        ],
        "warnings": [
            {
                "code": "several_subjects", "message": "Two subjects were found.",
                "boxes": ["0.21,0.1,0.64,0.93", "0.7,0.3,0.9,0.9"],
            }
        ],
        "finished_at": "2026-11-22T15:00:54.100Z",
        "expires_at": "2026-11-29T15:00:54.100Z",
    },
    "error": {
        **_JOB_HEAD,
        "status": "error",
        "error": "No subject was found in the frames.",
        "error_code": "no_subject_found",
        "error_hint": "Film one subject, whole in the picture, before a plain background.",
        "retryable": False,
        "timings": {"queued": 0.1, "total": 2.0},
        "warnings": [],
        "finished_at": "2026-11-22T15:00:11.100Z",
        "expires_at": "2026-11-29T15:00:54.100Z",
    },
}  # fmt: skip

EXAMPLES: dict[str, dict[str, Any]] = {
    **JOB_EXAMPLES,
    "accepted": {"job_id": EXAMPLE_ID, "status": "queued"},
    "healthy": {"status": "healthy", "gpu_available": False},
    "unhealthy": {"status": "unhealthy", "gpu_available": False},
    "ready": {"ready": True},
    "not_ready": {"ready": False, "reason": "loading_model"},
    "deleted": {"status": "deleted", "job_id": EXAMPLE_ID},
    "cancelled": {"job_id": EXAMPLE_ID, "status": "cancelled"},
    "cancelling": {"job_id": EXAMPLE_ID, "status": "running", "cancel_requested": True},
    "list": {
        "jobs": [
            {
                "job_id": EXAMPLE_ID, "status": "running", "mode": "default",
                "pipeline": "silhouette", "created_at": "2026-11-22T15:00:00.000Z",
                "filename": "cat.mp4", "progress": {"percent": 58.3, "stage": "motion"},
            }
        ],
        "next_cursor": "41",
    },
    "info": {
        "name": "actionmesh-worker",
        "version": "1.0.0",
        "pipeline": {"name": "actionmesh", "reason": "a CUDA GPU was found (NVIDIA H200)"},
        "model": {
            "name": "facebook/ActionMesh", "revision": "main",
            "license": "FAIR Noncommercial Research License v1",
            "notice": "Non-commercial research only.",
        },
        "gpu": {"name": "NVIDIA H200", "memory_gb": 150.8},
        "gpus": [
            {"index": 0, "name": "NVIDIA H200", "memory_gb": 150.8, "state": "busy"},
            {"index": 1, "name": "NVIDIA H200", "memory_gb": 150.8, "state": "ready"},
        ],
        "modes": [
            {
                "id": "default", "min_vram_gb": 12, "available": True, "default": True,
                "typical_seconds": 75.2, "seconds_per_frame": 1.8,
            }
        ],
        "limits": {
            "max_upload_bytes": 104857600, "min_frames": 16, "max_frames": 121,
            "default_frames": 31, "frame_step": 15, "max_queue": 32,
            "formats": ["mp4", "mov", "avi", "webm", "mkv", "gif", "webp", "zip"],
        },
        "features": {"animated_mesh": True, "preview_video": True},
        "queue": {"queued": 2, "running": 1},
        "options": {"seed": {"type": "integer", "minimum": 0, "maximum": 99, "default": 44}},
    },
}  # fmt: skip
