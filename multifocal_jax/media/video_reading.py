"""Reads videos with PyAV: their contents, packets with continuous timestamps, and frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer
from av.error import EOFError as EndOfFile
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from multifocal_jax.errors import UserError
from multifocal_jax.media.tracks import is_cover, pictures, ticks
from multifocal_jax.media.video_frames import Look, look_of

_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own leave out alpha
_BROADCAST = ("mpegts", "mpeg")  # formats whose timestamps may restart: recordings, concatenated files
_LEAP, _STEP_BACK = 10, Fraction(1, 10)  # jumps in seconds, forwards and backwards, that mean a restart


class VideoError(UserError):
    """A video cannot be read."""


@dataclass(frozen=True)
class Survey:
    """The result of scanning a video: its frames' times in seconds, and covers by the number of their track."""

    look: Look
    times: list[Fraction]
    covers: dict[int, bytes]


def open_video(source: Path) -> InputContainer:
    """Open a video's file; raises VideoError if FFmpeg cannot read it."""
    try:
        return av.open(str(source.absolute()), "r", metadata_errors="replace")  # a relative "a:b" names a protocol
    except (FFmpegError, OSError) as error:
        raise VideoError(f"video {source} cannot be read: {error.strerror or error}") from None


def survey_of(film: InputContainer, source: Path) -> Survey:
    """Scan a video, of which only the first frame is decoded; raises VideoError if no frame can be."""
    stream = pictures_of(film, source)
    decode = Decoder(stream)
    look, times, covers = None, [], {}
    for packet in packets_of(film, source):
        if packet.stream.index == stream.index:
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None and not packet.is_discard:
                times.append(time * packet.time_base)
            if look is None and (frames := decode(packet)):
                look = look_of(frames[0], stream)
        elif is_cover(packet.stream) and packet.size:
            covers[packet.stream.index] = bytes(packet)
    if look is None:
        raise VideoError(f"video {source} cannot be read: none of its pictures can be decoded")
    return Survey(look, sorted(times), covers)


def pictures_of(film: InputContainer, source: Path) -> VideoStream:
    """The video track to de-rain, decoded in several threads; raises VideoError if none can be decoded."""
    stream = pictures(film.streams)
    if stream is None or stream.codec_context is None:
        why = "nothing decodes its pictures" if stream else "it holds no pictures"
        raise VideoError(f"video {source} cannot be read: {why}")
    stream.codec_context.thread_type = "AUTO"
    return stream


def packets_of(film: InputContainer, source: Path) -> Iterator[Packet]:
    """All packets, the last one of a track followed by an empty one; raises VideoError if reading ends too early."""
    correct = _Continuous() if film.format.name in _BROADCAST else None
    try:
        for packet in film.demux():
            if correct:
                correct(packet)
            yield packet
    except (FFmpegError, OSError) as error:
        raise VideoError(f"video {source} cannot be read to its end: {error.strerror or error}") from None


class _Continuous:
    """Corrects the timestamps of packets: a jump within a track means that a new part of the file begins.

    The tracks reach it one after the other; it is placed after everything before the first of them reached it.
    """

    def __init__(self) -> None:
        self.offsets = [Fraction(0)]  # of the parts
        self.part: dict[int, int] = {}  # that a track has come to
        self.expected: dict[int, Fraction] = {}  # next time of a track

    def __call__(self, packet: Packet) -> None:
        if packet.dts is None:
            return
        index, time = packet.stream.index, packet.dts * packet.time_base
        part = self.part.setdefault(index, len(self.offsets) - 1)
        steady = packet.stream.type in ("audio", "video")  # others may be silent for long
        if not steady:
            part = len(self.offsets) - 1
        expected = self.expected.get(index, time + self.offsets[part])
        if steady and not -_STEP_BACK <= time + self.offsets[part] - expected <= _LEAP:
            part = self.part[index] = part + 1
            if part == len(self.offsets):
                self.offsets.append(max(self.expected.values()) - time)
            expected = time + self.offsets[part]
        end = time + self.offsets[part] + (packet.duration or 0) * packet.time_base
        self.expected[index] = max(expected, end)
        shift = ticks(self.offsets[part], packet.time_base)
        packet.dts += shift
        packet.pts = None if packet.pts is None else packet.pts + shift


class Decoder:
    """Decodes packets; a damaged one yields no frame, but is counted."""

    def __init__(self, stream: VideoStream) -> None:
        self.context, self.damaged = stream.codec_context, 0
        if stream.metadata.get("alpha_mode") == "1" and (name := _ALPHA_DECODERS.get(self.context.name)):
            self.context = cast(VideoCodecContext, av.Codec(name, "r").create("video"))

    def __call__(self, packet: Packet) -> list[VideoFrame]:
        try:
            return self.context.decode(packet if packet.size else None)
        except EndOfFile:  # told the end twice
            return []
        except FFmpegError:
            self.damaged += 1
            return []
