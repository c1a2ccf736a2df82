"""De-rains videos frame by frame with PyAV, which includes FFmpeg's libraries; everything else in the file is kept."""

import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, cast

import av
import numpy as np
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from multifocal_jax.files import OutputError, make_folder, write_whole
from multifocal_jax.media.containers import Container, Encoder, container_of
from multifocal_jax.media.tracks import carry, ticks, true_of_result
from multifocal_jax.media.video_frames import LIMITED, Look, to_array, to_frame, usual_matrix
from multifocal_jax.media.video_reading import Decoder, Survey, open_video, packets_of, pictures_of, survey_of

os.environ.setdefault("SVT_LOG", "0")  # the encoder of AV1 writes its settings to stderr otherwise

_HDR = {16: "PQ", 18: "HLG"}  # FFmpeg's numbers of transfer functions that need 10 bits
_FEW_FRAMES = 8  # with fewer than it reorders, x265 gives arbitrary times
_TICKS = Fraction(1, 1000)  # for a variable rate if the container only counts frames

Derain = Callable[[np.ndarray], np.ndarray]


def derain_video(derain: Derain, source: Path, target: Path, *, progress: bool = False) -> list[str]:
    """De-rain a video frame by frame; timestamps, all other tracks and metadata are kept.

    Frames are rotated upright. The pixel aspect ratio and the colours' matrix, range and tags are kept; a video without
    a matrix tag is read as BT.709 from 720 rows up, below that as BT.601. More than 8 bits per channel become 10, and
    transparency is kept, if the container has an encoder for them; see `containers` for the encoders.

    Args:
        derain: a `Derainer`; called with (H, W, 3) uint8, or uint16 for a video of more than 8 bits.
        source: the video.
        target: to be written; its suffix determines the container.
        progress: show a bar on stderr.

    Returns:
        What the result no longer contains, in words.

    Raises:
        VideoError: the video cannot be read.
        OutputError: it cannot be written, or its container does not support HDR.
    """
    from tqdm import tqdm

    with open_video(source) as film:
        container = container_of(target, source, film.format.name)
        survey = survey_of(film, source)
    encoder, lost = _encoder(container, survey, target)
    make_folder(target.absolute().parent)

    def write(film: InputContainer, result: OutputContainer, bar: tqdm) -> None:
        look, picture = survey.look, pictures_of(film, source)
        decode, clock = Decoder(picture), _Clock(survey.times, container, picture)
        origin = Fraction(film.start_time or 0, av.time_base)
        stream = cast(VideoStream, result.add_stream(encoder.name, rate=clock.rate, time_base=clock.time_base))
        _set_up(stream, look, encoder, container)
        stream.metadata.update(true_of_result(picture.metadata))
        stream.disposition = picture.disposition
        tracks, not_carried = carry(film, result, container, picture, survey.covers, origin)
        lost.extend(not_carried)
        durations: dict[int | None, int] = {}

        def encode(frame: VideoFrame | None) -> None:
            for packet in stream.encode(frame):
                packet.duration = durations.pop(packet.pts, 0)
                result.mux(packet)

        for packet in packets_of(film, source):
            if packet.stream.index == picture.index:
                for frame in decode(packet):
                    time, duration = clock.time(frame) - ticks(origin, clock.time_base), clock.duration(frame)
                    array = to_array(frame, look)
                    array[..., :3] = derain(array[..., :3])
                    clean = to_frame(array, look, stream)
                    clean.pts, clean.time_base, durations[time] = time, clock.time_base, duration
                    encode(clean)
                    bar.update(1)
            elif packet.stream.index in tracks:
                tracks[packet.stream.index].take(packet)
        encode(None)
        if decode.damaged:
            lost.append(f"{decode.damaged} damaged packets of pictures")

    def write_file(file: BinaryIO) -> None:
        try:
            frames = len(survey.times)
            bar = tqdm(total=frames, unit="frame", disable=not progress, desc=source.name, dynamic_ncols=True)
            with bar, open_video(source) as film:
                result = av.open(file, "w", format=container.muxer, container_options=dict(container.options))
                write(film, result, bar)
                result.close()  # not after an error, which another one in closing would hide
        except FFmpegError as error:
            raise OutputError(f"{target} cannot be written as {container.muxer}: {error.strerror}") from None

    write_whole(target, write_file)
    return lost


def _encoder(container: Container, survey: Survey, target: Path) -> tuple[Encoder, list[str]]:
    """How frames are encoded, and what is lost."""
    look = survey.look
    hdr, encoder, lost = _HDR.get(look.transfer), container.picture, list(look.lost)
    if look.alpha and container.alpha and not hdr:
        encoder = container.alpha
    elif look.alpha:
        lost.append("transparency")
    if encoder is not container.alpha and container.deep and (hdr or look.bits > 8):
        encoder = container.deep
    bits = VideoFormat(encoder.pixels).components[0].bits
    if hdr and bits < 10:
        raise OutputError(f"{target}: {container.muxer} holds 8 bits, too few for HDR ({hdr}); use .mp4, .mkv or .webm")
    if bits < look.bits:
        lost.append(f"{look.bits} bits per channel, which became {bits}")
    if look.aspect != 1 and not container.aspect:
        lost.append("the shape of its pixels, which became squares")
    if encoder.name == "libx265":
        words = [encoder.options["x265-params"], *([look.display] if look.display else [])]
        words += ["bframes=0"] if len(survey.times) < _FEW_FRAMES else []
        encoder = replace(encoder, options={**encoder.options, "x265-params": ":".join(words)})
    elif look.display:
        lost.append("HDR10 metadata")
    return encoder, lost


def _set_up(stream: VideoStream, look: Look, encoder: Encoder, container: Container) -> None:
    """Set the properties of the video track."""
    width, height = look.shown
    if container.aspect:
        stream.sample_aspect_ratio = look.aspect
    else:
        width = round(width * look.aspect)
    stream.options = dict(encoder.options)
    stream.width, stream.height = width, height
    stream.pix_fmt = encoder.pixels if width % 2 == height % 2 == 0 else encoder.odd
    tagged = container.muxer != "avi"
    stream.colorspace = look.matrix if tagged else usual_matrix(look.height)
    stream.color_range = look.range if tagged else LIMITED
    stream.color_primaries, stream.color_trc = look.primaries, look.transfer
    if encoder.tag:
        stream.codec_context.codec_tag = encoder.tag


class _Clock:
    """Gives frames distinct times in the result, in units of `time_base`."""

    def __init__(self, times: list[Fraction], container: Container, picture: VideoStream) -> None:
        rates = [rate for rate in (picture.average_rate, picture.guessed_rate) if rate]
        if len(times) > 1 and times[-1] > times[0]:
            rates.append((len(times) - 1) / (times[-1] - times[0]))
        self.rate = rates[0] if rates else Fraction(25)
        self.time_base = self.source = picture.time_base or Fraction(1, av.time_base)
        if container.even:
            numbered = [  # those by which the times are the numbers 0, 1, 2, ... of frames
                rate
                for rate in rates
                if all(abs((time - times[0]) * rate - number) < 0.5 for number, time in enumerate(times))
            ]
            self.time_base = 1 / numbered[0] if numbered else _TICKS
        self.last: int | None = None

    def time(self, frame: VideoFrame) -> int:
        told = frame.dts if frame.pts is None else frame.pts
        time = (self.last or 0) if told is None else ticks(told * self.source, self.time_base)
        self.last = time if self.last is None else max(time, self.last + 1)
        return self.last

    def duration(self, frame: VideoFrame) -> int:
        return ticks(frame.duration * self.source, self.time_base)
