"""The tree of errors: complete, documented, and the same on both sides of the process boundary."""

from __future__ import annotations

import errors
from errors import ERRORS_BY_CODE, InternalError, ServiceError, UserFault, VideoTooShort


def test_every_code_has_one_class() -> None:
    classes = [
        kind for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ServiceError)
        and kind not in (ServiceError, UserFault, errors.ServerFault)
    ]  # fmt: skip
    assert len(classes) == len(ERRORS_BY_CODE) == len({kind.code for kind in classes})


def test_the_tree_in_the_docstring_names_every_class() -> None:
    drawing = errors.__doc__ or ""
    for kind in ERRORS_BY_CODE.values():
        assert kind.__name__ in drawing


def test_the_contract_names_every_status() -> None:
    for kind in ERRORS_BY_CODE.values():
        assert (400 <= kind.status < 500) == issubclass(kind, UserFault), kind


def test_an_error_is_sent_between_processes_unchanged() -> None:
    error = VideoTooShort("The video has 10 frames.", frames=10, min_frames=16)
    again = ServiceError.from_dict(error.to_dict())
    assert type(again) is VideoTooShort and again.to_dict() == error.to_dict()


def test_an_unknown_record_is_an_internal_error() -> None:
    assert type(ServiceError.from_dict({"code": "magic", "facts": {"code": 1}})) is InternalError
