"""All tracks of a video but its pictures: sound, subtitles, cover, data, chapters; copied, re-encoded or reported."""

import io
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Protocol, cast

import av
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from multifocal_jax.media.containers import Container

_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
_USUAL_RATES = [8000, 11025, 16000, 22050, 32000, 44100, 48000]  # samples per second
_LAYOUTS = ["mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1"]  # by number of channels, from one up
_BITS_PER_CHANNEL = 96_000  # and second
# Prefixes of entries that apply only to the original file.
_OUTDATED = ("encoder", "rotate", "bps", "duration", "number_of_", "_statistics_", "major_brand", "minor_version")
_OUTDATED += ("compatible_brands",)


class Track(Protocol):
    """One track of the result."""

    def take(self, packet: Packet) -> None:
        """Write the contents of a packet of the source; the last one of a track is empty."""


class _Copied:
    def __init__(self, film: OutputContainer, stream: Stream, origin: Fraction) -> None:
        self.film, self.origin = film, origin
        self.stream = film.add_stream_from_template(stream, opaque=True)
        self.last: int | None = None

    def take(self, packet: Packet) -> None:
        if not packet.size:
            return
        shift = -ticks(self.origin, packet.time_base)
        if packet.dts is not None:
            if self.last is not None:  # times must increase, which those of damaged files do not
                shift = max(shift, self.last + 1 - packet.dts)
            self.last = packet.dts = packet.dts + shift
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.stream = self.stream
        self.film.mux(packet)


class _Sound:
    def __init__(self, film: OutputContainer, stream: AudioStream, encoder: str, origin: Fraction) -> None:
        self.film, self.origin = film, origin
        rate = _rate(encoder, stream.rate)
        layout = _layout(encoder, stream, rate)
        bits = _BITS_PER_CHANNEL * layout.nb_channels
        self.stream = cast(AudioStream, film.add_stream(encoder, rate=rate, bit_rate=bits))
        self.stream.codec_context.layout = layout
        self.kind: tuple[str, str, int] | None = None
        self.resampler: AudioResampler | None = None
        channels = stream.codec_context.layout.nb_channels
        self.lost = [f"{channels} channels of sound, which became 2"] if channels > layout.nb_channels else []

    def take(self, packet: Packet) -> None:
        try:
            frames = packet.decode()
        except FFmpegError:  # a damaged packet is not heard
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= ticks(self.origin, frame.time_base)
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if kind != self.kind:  # may change on the way
                self._encode(None)
                target = self.stream.codec_context
                self.kind, self.resampler = kind, AudioResampler(target.format, target.layout, target.rate)
            self._encode(frame)
        if not packet.size:
            self._encode(None)
            self.film.mux(self.stream.encode(None))

    def _encode(self, frame: AudioFrame | None) -> None:
        """Resample and encode a frame, or flush the resampler."""
        for part in self.resampler.resample(frame) if self.resampler else []:
            self.film.mux(self.stream.encode(part))


class _Subtitles:
    def __init__(self, film: OutputContainer, stream: SubtitleStream, encoder: str, origin: Fraction) -> None:
        self.film, self.origin, self.source = film, origin, stream
        self.stream = cast(SubtitleStream, film.add_stream(encoder))
        stream.codec_context.open(strict=False)  # so that there is a header
        self.stream.codec_context.subtitle_header = stream.codec_context.subtitle_header

    def take(self, packet: Packet) -> None:
        if not packet.size:
            return
        try:
            shown = self.source.decode2(packet)
        except FFmpegError:  # damaged
            return
        if shown is None or not len(shown) or packet.pts is None:
            return
        encoded = self.stream.codec_context.encode_subtitle(shown)
        encoded.time_base = packet.time_base
        encoded.pts = encoded.dts = packet.pts - ticks(self.origin, packet.time_base)
        encoded.duration = packet.duration
        encoded.stream = self.stream
        self.film.mux(encoded)


def _rate(encoder: str, wanted: int) -> int:
    """The lowest rate of an encoder that is lossless for this track, else its highest."""
    rates = sorted(av.Codec(encoder, "w").audio_rates or _USUAL_RATES)
    return next((rate for rate in rates if rate >= wanted), rates[-1])


def _layout(encoder: str, stream: AudioStream, rate: int) -> AudioLayout:
    """The channel layout of a track if an encoder supports it, else one with as many channels, else stereo."""
    own, codec = stream.codec_context.layout, av.Codec(encoder, "w")
    for layout in (own, *map(AudioLayout, _LAYOUTS[own.nb_channels - 1 : own.nb_channels])):
        trial = codec.create("audio")
        trial.sample_rate, trial.layout, trial.format = rate, layout, (codec.audio_formats or [stream.format])[0]
        try:
            trial.open()
        except FFmpegError:
            continue
        return layout
    return AudioLayout("stereo")


def time_base_of(stream: Stream) -> Fraction:
    """The unit of a track's times in seconds."""
    return stream.time_base or Fraction(1, av.time_base)


def ticks(seconds: Fraction, time_base: Fraction) -> int:
    """A time in units of a time base."""
    return round(seconds / time_base)


def carry(
    source: InputContainer,
    target: OutputContainer,
    container: Container,
    picture: Stream,
    covers: dict[int, bytes],
    origin: Fraction,
) -> tuple[dict[int, Track], list[str]]:
    """Prepare the result for everything in the source except the video track.

    Args:
        source: the video.
        target: the result, in which the video track is already set up.
        container: kind of the result.
        picture: the source's track that is de-rained.
        covers: contents of cover pictures, by the number of their track.
        origin: the source's time in seconds that becomes 0.

    Returns:
        The tracks that receive the source's packets, by the number of the track there; what is lost, in words.
    """
    tracks: dict[int, Track] = {}
    lost = []
    numbers: dict[str, int] = {}
    same = target.format.name in source.format.name.split(",")
    for stream in source.streams:
        numbers[stream.type] = numbers.get(stream.type, 0) + 1
        if stream.index == picture.index or _told_elsewhere(source, stream):
            continue
        if stream.index in covers and _attach_cover(target, container, stream, covers[stream.index]):
            continue
        track = None
        if stream.type != "audio" or container.sounds is None or numbers["audio"] <= container.sounds:
            track = _track(target, container, stream, same, stream.index in covers, origin)
        if track:
            tracks[stream.index] = track
            lost += track.lost if isinstance(track, _Sound) else []
        else:
            lost.append(_spell(stream, numbers[stream.type], stream.index in covers))
    target.metadata.update(true_of_result(source.metadata))
    if any(key.startswith("com.") for key in target.metadata) and "mov" in source.format.name:  # phones' own entries
        target.container_options["movflags"] = "use_metadata_tags"
    if chapters := source.chapters():
        if container.chapters:
            target.set_chapters([_shifted(chapter, origin) for chapter in chapters])
        else:
            lost.append("chapters")
    return tracks, lost


def true_of_result(metadata: dict[str, str]) -> dict[str, str]:
    """The entries of a file or a track that also apply to the result."""
    return {key: value for key, value in metadata.items() if not key.lower().startswith(_OUTDATED)}


def _track(
    target: OutputContainer, container: Container, stream: Stream, same: bool, cover: bool, origin: Fraction
) -> Track | None:
    """The result's track for one of the source; None if the container does not support it."""
    track: _Copied | _Sound | _Subtitles | None = None
    held = container.cover == "track" and _codec(stream) in _COVERS if cover else _takes(container, stream, same)
    if held:
        track = _Copied(target, stream, origin)
    elif isinstance(stream, AudioStream) and stream.codec_context:
        track = _Sound(target, stream, container.sound, origin)
    elif isinstance(stream, SubtitleStream) and container.subtitles and stream.codec_context:
        track = _Subtitles(target, stream, container.subtitles, origin) if stream.codec_context.codec.text_sub else None
    if track:
        track.stream.metadata.update(true_of_result(stream.metadata))
        track.stream.disposition = stream.disposition
    return track


def _takes(container: Container, stream: Stream, same: bool) -> bool:
    """Whether a container supports a track unchanged; `same`: the source is of the same kind."""
    if stream.type in ("audio", "subtitle") and stream.codec_context is None:  # FFmpeg has no decoder
        return False
    if stream.type in ("video", "attachment"):
        return stream.type == "attachment" and container.cover == "attachment"
    if not same and stream.type != "audio" and not (stream.type == "subtitle" and container.subtitles):
        return False
    if container.takes and stream.type == "audio":
        return same or _codec(stream).startswith(container.takes)
    if container.muxer in ("mp4", "3gp") and _codec(stream).startswith("pcm_"):
        return False  # possible by a late standard that players do not know
    try:
        with av.open(io.BytesIO(), "w", format=container.muxer) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


def _codec(stream: Stream) -> str:
    """FFmpeg's name of a track's codec; empty if unknown."""
    return getattr(stream, "name", None) or ""


def _attach_cover(target: OutputContainer, container: Container, stream: Stream, data: bytes) -> bool:
    if container.cover != "attachment" or _codec(stream) not in _COVERS:
        return False
    target.add_attachment(*_COVERS[_codec(stream)], data)
    return True


def _told_elsewhere(source: InputContainer, stream: Stream) -> bool:
    """Whether the result's muxer creates a data track itself: for time code or chapters."""
    return stream.type == "data" and ("timecode" in stream.metadata or bool(source.chapters() and _codec(stream)))


def _spell(stream: Stream, number: int, cover: bool) -> str:
    kind = {"audio": "sound", "video": "pictures", "subtitle": "subtitles"}.get(stream.type, stream.type)
    return "cover picture" if cover else f"{kind} {number} ({_codec(stream) or 'unknown'})"


def _shifted(chapter: Any, origin: Fraction) -> Any:
    offset = ticks(origin, chapter["time_base"])
    return {**chapter, "start": chapter["start"] - offset, "end": chapter["end"] - offset}


def is_cover(stream: Stream) -> bool:
    """Whether a video track is a single cover picture."""
    return bool(stream.disposition & Disposition.attached_pic)


def pictures(streams: Iterable[Stream]) -> VideoStream | None:
    """The first video track, if there is one."""
    return next((stream for stream in streams if isinstance(stream, VideoStream) and not is_cover(stream)), None)
