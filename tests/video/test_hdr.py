"""HDR clips decode to the brightness and colours of the same clip in SDR."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.video.clips import ffmpeg
from video.frames import read_clip
from video.hdr import can_tone_map
from video.sampling import FrameRequest
from video.sandbox import ffmpeg_path

MEDIA = os.environ.get("TEST_MEDIA", "")
HEVC = ("-c:v", "libx265", "-x265-params", "log-level=none", "-crf", "4")
TWELVE_BIT = ("-c:v", "prores_ks", "-profile:v", "4444")
LEVELS = (30, 60, 90, 120, 150, 235)
RED_LEFT = "r='{0}':g='if(lt(X,W/2),{0}/2,{0})':b='if(lt(X,W/2),{0}/2,{0})'"
TO_HDR = (
    "format=gbrp16le,setparams=color_primaries=bt709:color_trc=bt709,"
    "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt2020,zscale=t={0}:npl=203:m=bt2020nc"
)


def clip(folder: Path, transfer: str, *output: str, size: str = "192x128") -> Path:
    """Six bands of brightness, their left half reddish; `transfer` is bt709 or HDR's."""
    bands = f"st(0,floor(Y*6/H));{'+'.join(f'eq(ld(0),{k})*{v}' for k, v in enumerate(LEVELS))}"
    filters = f"format=gbrp,geq={RED_LEFT.format(f'({bands})')},trim=end_frame=1,loop=19:1"
    filters += ",setpts=N/10/TB"
    if transfer != "bt709":
        filters += "," + TO_HDR.format(transfer)
    path = folder / f"{transfer}.mov"
    source = f"color=black:s={size}:r=10"
    ffmpeg("-f", "lavfi", "-i", source, "-vf", filters, "-frames:v", "20", *output, str(path))
    return path


def bands(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean colour of each band, left and right: (6, 2, 3)."""
    height, width = frames.shape[1:3]
    rows = [slice(int((k + 0.3) * height / 6), int((k + 0.7) * height / 6)) for k in range(6)]
    halves = [slice(width // 8, 3 * width // 8), slice(5 * width // 8, 7 * width // 8)]
    return np.array(
        [[frames[-1, r, c, :3].mean(axis=(0, 1)) for c in halves] for r in rows], np.float64
    )


@pytest.fixture(scope="module")
def sdr(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float64]:
    output = ("-c:v", "libx264", "-crf", "2", "-pix_fmt", "yuv444p")
    made = clip(tmp_path_factory.mktemp("sdr"), "bt709", *output)
    frames, warnings = read_clip(made, "mov")
    assert "tone_mapped" not in [warning.code for warning in warnings]
    return bands(frames.frames)


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
@pytest.mark.parametrize("output", [
    pytest.param((*HEVC, "-pix_fmt", "yuv420p10le"), id="10 bits"),
    pytest.param((*TWELVE_BIT, "-pix_fmt", "yuva444p10le"), id="12 bits, with a channel for alpha"),
])  # fmt: skip
def test_an_hdr_clip_has_the_tones_of_its_sdr_twin(
    transfer: str, output: tuple[str, ...], tmp_path: Path, sdr: NDArray[np.float64]
) -> None:
    found, warnings = read_clip(clip(tmp_path, transfer, *output), "mov")
    assert warnings[0].code == "tone_mapped" and "tone-mapped" in warnings[0].message
    toned = bands(found.frames)
    assert np.abs(toned - sdr)[:5].max() < 8  # up to 30 % of white in linear light nothing changes
    assert (toned[5, 1] > 190).all()


def test_alpha_is_kept_beside_hdr(tmp_path: Path) -> None:
    plain = clip(tmp_path, "smpte2084", *TWELVE_BIT, "-pix_fmt", "yuv444p10le")
    cut = tmp_path / "cut.mov"
    left = "format=yuva444p10le,geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='1023*lt(X,W/2)'"
    tags = "setparams=color_primaries=bt2020:colorspace=bt2020nc:color_trc=smpte2084"
    ffmpeg("-i", str(plain), "-vf", f"{left},{tags}", *TWELVE_BIT, str(cut))
    found, _ = read_clip(cut, "mov")
    whole, _ = read_clip(plain, "mov")
    alpha = found.frames[..., 3]
    assert alpha[:, :, :90].min() > 250 and alpha[:, :, 102:].max() < 5
    off = np.abs(found.frames[:, :, :90, :3].astype(int) - whole.frames[:, :, :90])
    assert off.mean() < 3


def test_start_rotation_and_a_large_odd_picture(tmp_path: Path) -> None:
    made = clip(tmp_path, "smpte2084", *HEVC, "-pix_fmt", "yuv420p10le", size="1400x386")
    turned = tmp_path / "turned.mov"
    ffmpeg("-display_rotation", "90", "-i", str(made), "-c", "copy", str(turned))
    found, warnings = read_clip(turned, "mov", FrameRequest(start=0.25))
    assert found.frames.shape == (16, 1024, 282, 3) and found.source.used[0] == 3
    assert warnings[0].code == "tone_mapped"
    upright, _ = read_clip(made, "mov")
    off = bands(np.rot90(found.frames, -1, axes=(1, 2))) - bands(upright.frames)
    assert np.abs(off).max() < 3


def test_a_stream_that_states_only_its_transfer_is_taken_as_bt2020(tmp_path: Path) -> None:
    made = clip(tmp_path, "smpte2084", *HEVC, "-pix_fmt", "yuv420p10le")
    bare = tmp_path / "bare.mov"
    unstated = "hevc_metadata=colour_primaries=2:matrix_coefficients=2"
    ffmpeg("-i", str(made), "-c", "copy", "-bsf:v", unstated, "-movflags", "-write_colr", str(bare))
    found, warnings = read_clip(bare, "mov")
    assert warnings[0].code == "tone_mapped"
    assert np.array_equal(found.frames, read_clip(made, "mov")[0].frames)


@pytest.fixture
def ffmpeg_without_zscale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same ffmpeg, for which zscale has another name."""
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/bash\nexec {ffmpeg_path()} "${{@//zscale/no_such_filter}}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    ffmpeg_path.cache_clear()
    can_tone_map.cache_clear()
    yield
    monkeypatch.undo()
    ffmpeg_path.cache_clear()
    can_tone_map.cache_clear()


def test_an_ffmpeg_without_zscale_decodes_and_says_how(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made = clip(tmp_path, "smpte2084", *HEVC, "-pix_fmt", "yuv420p10le")
    request.getfixturevalue("ffmpeg_without_zscale")
    found, warnings = read_clip(made, "mov")
    assert len(found) == 16 and "lacks zscale" in warnings[0].message


@pytest.mark.skipif(not MEDIA, reason="TEST_MEDIA is not set")
def test_a_phones_hdr_is_neither_grey_nor_flat() -> None:
    found, warnings = read_clip(Path(MEDIA) / "field" / "F4_hdr10_phone.mp4", "mov")
    assert warnings[0].code == "tone_mapped"
    sky = found.frames[20:].astype(float)  # a blue sky between white clouds
    assert np.percentile(sky, 99) > 240
    assert (sky[..., 2] - sky[..., 0]).max() > 60
