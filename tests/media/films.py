"""Making and measuring small videos with PyAV alone: pixels as they are stored, all tracks, every time."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

FLAT = (90, 110, 160)  # Y, U, V: a colour within RGB by every matrix and range
RATE = 8000  # of sound, per second
SIZE = (32, 32)
_LOSSLESS = {"libx264": {"qp": "0"}, "libx265": {"x265-params": "lossless=1:bframes=0:log-level=none"}}


@dataclass
class Extra:
    """What a film holds beside its pictures: codecs of sound and subtitles, and whether there are a cover and so on."""

    sound: Sequence[str] = ()
    layout: str = "mono"
    subtitles: str = ""
    cover: bool = False
    chapters: bool = False
    metadata: dict[str, str] = field(default_factory=dict)


def make(
    path: Path,
    values: Sequence[Sequence[int]] = (FLAT,) * 3,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    tags: dict[str, Any] | None = None,
    aspect: Fraction = Fraction(1),
    options: dict[str, str] | None = None,
    extra: Extra | None = None,
) -> Path:
    """Frames of one colour each, given as it is stored plane by plane, at times in milliseconds."""
    extra, deep = extra or Extra(), av.VideoFormat(pixels).components[0].bits > 8
    times = [100 * number for number in range(len(values))] if times is None else times
    with av.open(str(path.absolute()), "w") as film:
        stream = film.add_stream(codec, rate=10, time_base=Fraction(1, 1000))
        stream.options = dict(_LOSSLESS.get(codec, {}) | (options or {}))
        stream.width, stream.height, stream.pix_fmt, stream.sample_aspect_ratio = *size, pixels, aspect
        for name, value in (tags or {}).items():
            setattr(stream, name, value)
        film.metadata.update(extra.metadata)
        sounds = [_add_sound(film, codec, extra.layout) for codec in extra.sound]
        subtitles = film.add_stream(extra.subtitles) if extra.subtitles else None
        cover = _add_cover(film) if extra.cover else None
        if extra.chapters:
            both = [
                {"id": 1, "start": 0, "end": 100, "metadata": {"title": "one"}},
                {"id": 2, "start": 100, "end": 300, "metadata": {"title": "two"}},
            ]
            film.set_chapters([{**chapter, "time_base": Fraction(1, 1000)} for chapter in both])
        if subtitles:
            subtitles.codec_context.subtitle_header = _header()
        for number, (colour, time) in enumerate(zip(values, times, strict=True)):
            frame = av.VideoFrame(*size, pixels)
            for plane, value in zip(frame.planes, colour, strict=True):
                filled = np.full(plane.buffer_size // (1 + deep), value, np.uint16 if deep else np.uint8)
                plane.update(filled.tobytes())
            frame.pts, frame.time_base = time, stream.codec_context.time_base
            film.mux(stream.encode(frame))
            if number == 0:
                _write_extra(film, sounds, subtitles, cover)
        film.mux(stream.encode(None))
    return path


def _header() -> bytes:
    context = av.CodecContext.create("subrip", "r")
    context.open()
    return context.subtitle_header


def _add_sound(film: Any, codec: str, layout: str) -> Any:
    stream = film.add_stream(codec, rate=RATE, bit_rate=64_000)
    stream.codec_context.layout = layout
    stream.metadata["language"] = "deu" if len(film.streams) == 2 else "fra"
    return stream


def _add_cover(film: Any) -> Any:
    stream = film.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 16, 16, "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic
    return stream


def cover() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(file, "JPEG")
    return file.getvalue()


def _write_extra(film: Any, sounds: list[Any], subtitles: Any, picture: Any) -> None:
    for number, stream in enumerate(sounds):
        film.mux([*stream.encode(tone(440 * (number + 1), stream.layout.name)), *stream.encode(None)])
    if subtitles:
        for start, text in ((0, b"0,0,Default,,0,0,0,,Hello"), (150, b"1,0,Default,,0,0,0,,World")):
            packet = subtitles.codec_context.encode_subtitle(av.subtitles.subtitle.SubtitleSet.create(text, 0, 100))
            packet.pts = packet.dts = start
            packet.time_base, packet.duration, packet.stream = Fraction(1, 1000), 100, subtitles
            film.mux(packet)
    if picture:
        packet = av.Packet(cover())
        packet.stream, packet.pts, packet.dts, packet.time_base = picture, 0, 0, Fraction(1, 1000)
        film.mux(packet)


def tone(hertz: int, layout: str = "mono") -> av.AudioFrame:
    """0.3 seconds of a sine at half of the full loudness in every channel."""
    wave = np.sin(2 * np.pi * hertz * np.arange(RATE * 3 // 10) / RATE) * 16000
    channels = av.AudioLayout(layout).nb_channels
    frame = av.AudioFrame.from_ndarray(np.repeat(wave.astype(np.int16), channels)[None], "s16", layout)
    frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
    return frame


def frames(path: Path) -> list[Any]:
    """As they are stored, not turned."""
    with av.open(str(path.absolute())) as film:
        stream = next(stream for stream in film.streams.video if not stream.disposition & 1024)
        return list(film.decode(stream))


def planes(frame: Any) -> np.ndarray:
    """Means of the planes of a frame."""
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    means = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, kind).reshape(plane.height, -1)
        means.append(rows[:, : plane.width].mean())
    return np.array(means)


def times(path: Path) -> list[float]:
    """Milliseconds from the first frame."""
    found = [float(frame.pts * frame.time_base) * 1000 for frame in frames(path)]
    return [time - found[0] for time in found]


def kinds(path: Path) -> list[str]:
    """Of all tracks: kind and codec."""
    with av.open(str(path.absolute())) as film:
        return [f"{stream.type} {getattr(stream, 'name', None)}" for stream in film.streams]


def loudest(path: Path, track: int) -> float:
    """The frequency of a track of sound."""
    with av.open(str(path.absolute())) as film:
        resampler = av.AudioResampler("flt", "mono", RATE)
        heard = [f for frame in film.decode(film.streams.audio[track]) for f in resampler.resample(frame)]
    wave = np.concatenate([frame.to_ndarray().ravel() for frame in heard])
    assert len(wave) >= RATE * 0.29
    assert np.abs(wave).max() > 0.3
    return float(np.abs(np.fft.rfft(wave)).argmax() * RATE / len(wave))
