"""All tracks of a video but its pictures: sound, subtitles, cover, data, chapters; copied, re-encoded or reported."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

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


@dataclass
class Track:
    """One track of the result."""

    stream: Stream
    take: Callable[[Packet], None]  # writes what a packet of the source holds; the last one of a track is empty
    lost: tuple[str, ...] = ()  # in words


def _copied(film: OutputContainer, source: Stream, origin: Fraction) -> Track:
    stream = film.add_stream_from_template(source, opaque=True)
    last: int | None = None

    def take(packet: Packet) -> None:
        nonlocal last
        if not packet.size:
            return
        shift = -ticks(origin, packet.time_base)
        if packet.dts is not None:
            if last is not None:  # times must increase, which those of damaged files do not
                shift = max(shift, last + 1 - packet.dts)
            last = packet.dts = packet.dts + shift
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.stream = stream
        film.mux(packet)

    return Track(stream, take)


def _sound(film: OutputContainer, source: AudioStream, encoder: str, origin: Fraction) -> Track:
    rate = _rate(encoder, source.rate)
    layout = _layout(encoder, source, rate)
    bits = _BITS_PER_CHANNEL * layout.nb_channels
    stream = cast(AudioStream, film.add_stream(encoder, rate=rate, bit_rate=bits))
    stream.codec_context.layout = layout
    kind: tuple[str, str, int] | None = None
    resampler: AudioResampler | None = None

    def encode(frame: AudioFrame | None) -> None:
        """Resample and encode a frame, or flush the resampler."""
        for part in resampler.resample(frame) if resampler else []:
            film.mux(stream.encode(part))

    def take(packet: Packet) -> None:
        nonlocal kind, resampler
        try:
            frames = packet.decode()
        except FFmpegError:  # a damaged packet is not heard
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= ticks(origin, frame.time_base)
            if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):  # may change on the way
                encode(None)
                target = stream.codec_context
                resampler = AudioResampler(target.format, target.layout, target.rate)
            encode(frame)
        if not packet.size:
            encode(None)
            film.mux(stream.encode(None))

    channels = source.codec_context.layout.nb_channels
    few = channels > layout.nb_channels
    return Track(stream, take, (f"{channels} channels of sound, which became 2",) if few else ())


def _subtitles(film: OutputContainer, source: SubtitleStream, encoder: str, origin: Fraction) -> Track:
    stream = cast(SubtitleStream, film.add_stream(encoder))
    source.codec_context.open(strict=False)  # so that there is a header
    stream.codec_context.subtitle_header = source.codec_context.subtitle_header

    def take(packet: Packet) -> None:
        try:
            shown = source.decode2(packet) if packet.size else None
        except FFmpegError:  # damaged
            return
        if shown is None or not len(shown) or packet.pts is None:
            return
        encoded = stream.codec_context.encode_subtitle(shown)
        encoded.time_base = packet.time_base
        encoded.pts = encoded.dts = packet.pts - ticks(origin, packet.time_base)
        encoded.duration = packet.duration
        encoded.stream = stream
        film.mux(encoded)

    return Track(stream, take)


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
    """Prepare `target`, whose video track is set up, for everything in `source` but its track `picture`.

    The source's cover pictures are given by the number of their track; its time `origin` in seconds becomes 0. Returns
    the tracks that receive the source's packets, by the number of the track there, and what is lost, in words.
    """
    tracks: dict[int, Track] = {}
    lost = []
    numbers: dict[str, int] = {}
    same = target.format.name in source.format.name.split(",")
    for stream in source.streams:
        numbers[stream.type] = numbers.get(stream.type, 0) + 1
        made_by_muxer = stream.type == "data" and (  # for time code or chapters
            "timecode" in stream.metadata or bool(source.chapters() and _codec(stream))
        )
        if stream.index == picture.index or made_by_muxer:
            continue
        cover = stream.index in covers
        if cover and container.cover == "attachment" and _codec(stream) in _COVERS:
            target.add_attachment(*_COVERS[_codec(stream)], covers[stream.index])
            continue
        full = stream.type == "audio" and container.sounds is not None and numbers["audio"] > container.sounds
        if track := None if full else _track(target, container, stream, same, cover, origin):
            tracks[stream.index] = track
            lost += track.lost
        else:
            kind = {"audio": "sound", "video": "pictures", "subtitle": "subtitles"}.get(stream.type, stream.type)
            number = f"{kind} {numbers[stream.type]} ({_codec(stream) or 'unknown'})"
            lost.append("cover picture" if cover else number)
    target.metadata.update(true_of_result(source.metadata))
    if any(key.startswith("com.") for key in target.metadata) and "mov" in source.format.name:  # phones' own entries
        target.container_options["movflags"] = "use_metadata_tags"
    if chapters := source.chapters():
        if container.chapters:
            for chapter in chapters:
                for side in ("start", "end"):
                    chapter[side] -= ticks(origin, cast(Fraction, chapter["time_base"]))
            target.set_chapters(chapters)
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
    if container.cover == "track" and _codec(stream) in _COVERS if cover else _takes(container, stream, same):
        track = _copied(target, stream, origin)
    elif isinstance(stream, AudioStream) and stream.codec_context:
        track = _sound(target, stream, container.sound, origin)
    elif (
        isinstance(stream, SubtitleStream)
        and container.subtitles
        and stream.codec_context
        and stream.codec_context.codec.text_sub
    ):
        track = _subtitles(target, stream, container.subtitles, origin)
    else:
        return None
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


def is_cover(stream: Stream) -> bool:
    """Whether a video track is a single cover picture."""
    return bool(stream.disposition & Disposition.attached_pic)


def pictures(streams: Iterable[Stream]) -> VideoStream | None:
    """The first video track, if there is one."""
    return next((stream for stream in streams if isinstance(stream, VideoStream) and not is_cover(stream)), None)
