"""What a request may hold, field by field, for /openapi.json; options.py checks the same."""

from __future__ import annotations

from typing import Any

from api.multipart import MAX_SMALL_BODY
from api.options import FORMATS, MAX_SEED, RETRY_NAMES
from intake.glb import MAX_MESH_BYTES
from presets import MAX_FRAMES, MIN_FRAMES, MODES

_OPTION_FIELDS: dict[str, Any] = {
    "mode": {
        "type": "string",
        "enum": list(MODES),
        "description": "Default: the best that this machine's GPU memory allows.",
    },
    "blender_export": {
        "type": "boolean",
        "default": False,
        "description": "Also make animated_mesh.fbx and .abc, where Blender is installed.",
    },
    "start": {
        "type": "number", "minimum": 0, "maximum": 86400, "default": 0,
        "description": "Skip so many seconds of the video.",
    },
    "fps": {
        "type": "number", "minimum": 1, "maximum": 60,
        "description": "Frames per second to take from the video. Default: spread over the clip.",
    },
    "max_frames": {
        "type": "integer", "minimum": MIN_FRAMES, "maximum": MAX_FRAMES, "default": MAX_FRAMES,
    },
    "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED, "default": 44},
    "formats": {
        "type": "string",
        "description": f"More ways out, with commas between: {', '.join(FORMATS)}.",
    },
    "video_url": {
        "type": "string", "format": "uri",
        "description": "A public http or https address of the video, instead of `file`.",
    },
    "webhook_url": {
        "type": "string", "format": "uri",
        "description": "Told once when the job has ended.",
    },
}  # fmt: skip
_FILE_FIELD = {
    "type": "string",
    "format": "binary",
    "description": "mp4, mov, avi or webm, or a zip of 16 to 31 PNG, JPEG or WebP frames in "
    "natural order (alpha is honoured).",
}
_MESH_FIELD = {
    "type": "string",
    "format": "binary",
    "description": f"A .glb of at most {MAX_MESH_BYTES} bytes, standing as the subject does in the "
    "first frame: it is animated in place of a new shape. ActionMesh pipeline only.",
}

UPLOAD_BODY: dict[str, Any] = {
    "required": True,
    "description": f"A JSON body holds at most {MAX_SMALL_BODY} bytes.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": _FILE_FIELD, "mesh": _MESH_FIELD, **_OPTION_FIELDS},
                "additionalProperties": False,
            }
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["video_url"],
                "properties": _OPTION_FIELDS,
                "additionalProperties": False,
            },
            "example": {"video_url": "https://example.com/cat.mp4", "mode": "fast"},
        },
        "application/x-www-form-urlencoded": {
            "schema": {
                "type": "object",
                "required": ["video_url"],
                "properties": _OPTION_FIELDS,
                "additionalProperties": False,
            }
        },
    },
}
RETRY_BODY: dict[str, Any] = {
    "required": False,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {name: _OPTION_FIELDS[name] for name in RETRY_NAMES},
                "additionalProperties": False,
            },
            "example": {"mode": "fast", "seed": 7},
        }
    },
}
