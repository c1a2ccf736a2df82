"""The video files that can be written: container and encoders for each suffix; all names are FFmpeg's."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from multifocal_jax.files import OutputError


@dataclass(frozen=True)
class Encoder:
    """A video encoder."""

    name: str
    pixels: str  # pixel format
    odd: str  # pixel format for an odd width or height
    options: dict[str, str] = field(default_factory=dict)
    tag: str | None = None  # the codec's tag in the container; None for the usual one


@dataclass(frozen=True)
class Container:
    """A kind of video file."""

    muxer: str
    picture: Encoder  # for 8 bits per channel
    deep: Encoder | None  # for 10 bits; None if there is none
    alpha: Encoder | None  # for pictures with transparency; None if there is none
    sound: str  # encoder for sound that cannot be copied
    subtitles: str | None = None  # encoder for text subtitles that cannot be copied; None if it supports none
    cover: str | None = None  # how it stores a cover picture: as a "track", as an "attachment", or not
    chapters: bool = False  # whether it supports them
    sounds: int | None = None  # number of sound tracks that it supports; None for any number
    even: bool = False  # whether its frame rate is constant, so that frames are timed by their numbers
    aspect: bool = True  # whether it stores a pixel aspect ratio
    takes: tuple[str, ...] = ()  # prefixes of sound codecs that players expect in it; if empty, the muxer decides
    options: dict[str, str] = field(default_factory=dict)  # of the muxer


_QUALITY = {"crf": "17", "preset": "medium"}
_H264 = Encoder("libx264", "yuv420p", "yuv444p", _QUALITY)
_HEVC = Encoder("libx265", "yuv420p10le", "yuv444p10le", {**_QUALITY, "x265-params": "log-level=none"})
_HEVC_IN_MP4 = replace(_HEVC, tag="hvc1")  # Apple's players want this tag
_VP9 = Encoder("libvpx-vp9", "yuv420p", "yuv420p", {"crf": "24", "b": "0"})
_VP9_ALPHA = Encoder(_VP9.name, "yuva420p", "yuva420p", {**_VP9.options, "auto-alt-ref": "0"})
_AV1 = Encoder("libsvtav1", "yuv420p10le", "yuv420p10le", {"crf": "20", "preset": "6"})
_PRORES = Encoder("prores_ks", "yuva444p10le", "yuva444p10le", {"profile": "4444", "alpha_bits": "16"})
_FINEST = {"qmin": "2", "qmax": "2"}  # quantiser
_MPEG2, _MPEG4, _WMV = (Encoder(name, "yuv420p", "yuv420p", _FINEST) for name in ("mpeg2video", "mpeg4", "wmv2"))

_MP4 = Container("mp4", _H264, _HEVC_IN_MP4, None, "aac", "mov_text", "track", chapters=True)
_TS_SOUND = ("aac", "ac3", "eac3", "mp2", "mp3", "dts")
_TS = Container("mpegts", _H264, _HEVC, None, "aac", takes=_TS_SOUND, options={"mpegts_m2ts_mode": "0"})
_BLURAY = replace(_TS, options={"mpegts_m2ts_mode": "1"})
_3GP = Container("3gp", _H264, None, None, "aac", "mov_text", chapters=True)
_MPEG = Container("mpeg", _MPEG2, None, None, "mp2", even=True, takes=("mp2", "ac3"))
_ASF = Container("asf", _WMV, None, None, "wmav2", aspect=False, takes=("wma", "mp3"))
_AVI_SOUND = ("mp3", "mp2", "ac3", "pcm", "adpcm")
_AVI_OPTIONS = {"avoid_negative_ts": "disabled"}  # else sound that begins early delays the pictures by a whole frame
_CONTAINERS = {
    **dict.fromkeys((".mp4", ".m4v"), _MP4),
    ".mov": Container("mov", _H264, _HEVC_IN_MP4, _PRORES, "aac", "mov_text", chapters=True),
    ".mkv": Container("matroska", _H264, _HEVC, _VP9_ALPHA, "aac", "subrip", "attachment", chapters=True),
    ".webm": Container("webm", _VP9, _AV1, _VP9_ALPHA, "libopus", "webvtt", chapters=True, aspect=False),
    ".avi": Container("avi", _MPEG4, None, None, "libmp3lame", even=True, takes=_AVI_SOUND, options=_AVI_OPTIONS),
    **dict.fromkeys((".mts", ".m2ts"), _BLURAY),
    ".ts": _TS,
    **dict.fromkeys((".3gp", ".3g2"), _3GP),
    **dict.fromkeys((".wmv", ".asf"), _ASF),
    ".flv": Container("flv", _H264, None, None, "aac", sounds=1),
    **dict.fromkeys((".mpg", ".mpeg", ".vob"), _MPEG),
}
_SUFFIX_OF_FORMAT = {  # of FFmpeg's demuxers
    "mov,mp4,m4a,3gp,3g2,mj2": ".mp4",
    "matroska,webm": ".mkv",
    "avi": ".avi",
    "mpegts": ".ts",
    "asf": ".wmv",
    "flv": ".flv",
    "mpeg": ".mpg",
}
SUFFIXES = tuple(suffix for suffix in _CONTAINERS if suffix != ".ts")  # TypeScript's, too: known by its contents


def container_of(target: Path, source: Path, format_name: str) -> Container:
    """The kind of video file to write as `target`: by its suffix or, if `source` has the same, by the source's format.

    Raises:
        OutputError: no video can be written with this suffix.
    """
    suffix = target.suffix.lower()
    if suffix not in _CONTAINERS and suffix == source.suffix.lower():
        suffix = _SUFFIX_OF_FORMAT.get(format_name, suffix)
    if suffix not in _CONTAINERS:
        raise OutputError(f"{target}: no video is written as {suffix or 'a file without a suffix'}; use .mp4 or .mkv")
    return _CONTAINERS[suffix]
