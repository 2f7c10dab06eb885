"""HDR video (PQ, HLG) to SDR: ffmpeg's filters for it, and the warning. Runs only a query.

Without them the values of HDR would be read as those of SDR: grey and flat. Detection is in
ffmpeg_phrases.py; probe.py keeps what was found, frames.py decodes with the filters.
"""

from __future__ import annotations

from functools import lru_cache

from video.ffmpeg_phrases import HdrColours
from video.sampling import ClipWarning
from video.sandbox import run_sandboxed

_WHITE_NITS = 203
"""Of diffuse white in HDR, ITU-R BT.2408; it becomes 0.68 of SDR's white in linear light."""
_PEAK_NITS = 1000
"""What is brighter is cut off: the peak of phones, and of HLG by definition."""
_NAMES = {"smpte2084": "PQ", "arib-std-b67": "HLG"}


def tone_mapping(colours: HdrColours, scale: str, has_alpha: bool) -> str:
    """Filters from HDR frames to 8-bit RGB of BT.709; `scale` is the filter to their final size.

    It comes first: a frame in floating point takes 12 bytes a pixel.
    """
    peak = _PEAK_NITS / _WHITE_NITS
    # "mobius" keeps tones up to 30 % of white as they are, and compresses those above
    mapped = (
        f"format=gbrp16le,zscale=t=linear:npl={_WHITE_NITS},format=gbrpf32le,zscale=p=bt709,"
        f"tonemap=mobius:desat=0:peak={peak:.4f},zscale=t=bt709,format=gbrp"
    )
    if has_alpha:  # zscale of ffmpeg 9 spoils the colours of frames with alpha
        mapped = (
            "format=gbrap16le,split[all][more];[more]alphaextract[alpha];"
            f"[all]{mapped}[colours];[colours][alpha]alphamerge"
        )
    return f"{_stated(colours)},{scale},{mapped}"


def _stated(colours: HdrColours) -> str:
    """A filter that gives frames the matrix and primaries they do not state: those of BT.2020."""
    stated = [f"color_trc={colours.transfer}"]
    if colours.matrix == "unknown":
        stated.append("colorspace=bt2020nc")
    if colours.primaries == "unknown":
        stated.append("color_primaries=bt2020")
    return f"setparams={':'.join(stated)}"


@lru_cache(maxsize=1)
def can_tone_map() -> bool:
    """True if this ffmpeg has zscale, which needs a library that some distributions leave out."""
    args = ["-hide_banner", "-h", "filter=zscale"]
    with run_sandboxed(args, stdin=iter(()), wall_s=20) as ffmpeg:
        text = ffmpeg.read(1 << 16)
        _, stderr = ffmpeg.finish()
    return b"Filter zscale" in text and "Unknown filter" not in stderr


def hdr_warning(colours: HdrColours) -> ClipWarning:
    """What was done with the clip's HDR."""
    kind = _NAMES[colours.transfer]
    if can_tone_map():
        message = (
            f"The clip is HDR ({kind}); its frames were tone-mapped to SDR, so bright parts and "
            "strong colours differ from the original."
        )
    else:
        message = (
            f"The clip is HDR ({kind}), and the ffmpeg of this server lacks zscale, which "
            "tone-maps it: the frames look grey and flat. Send the clip as SDR."
        )
    return ClipWarning("tone_mapped", message)
