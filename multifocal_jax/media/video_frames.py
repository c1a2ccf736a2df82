"""Converts frames of a video to arrays and back: rotated upright, with the video's own matrix, range and depth."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

BT709, BT601 = 1, 6
LIMITED, FULL = 1, 2  # range of values: 16 to 235, or 0 to 255
# By FFmpeg's number of a matrix between RGB and Y'CbCr: the number by which its converter knows the same.
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}
_SCALE = int(
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
_SIDE_DATA = {  # of frames, by FFmpeg's name: what is lost with them
    "A53_CC": "closed captions",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
}


@dataclass(frozen=True)
class Look:
    """How the frames of a video are stored and shown."""

    width: int  # as they are stored
    height: int
    turn: tuple[int, int, int, int]  # (a, b, c, d) that map stored to shown positions: x' = ax + cy, y' = bx + dy
    aspect: Fraction  # width to height of a pixel as shown
    bits: int  # per channel
    alpha: bool  # whether there is transparency
    matrix: int  # FFmpeg's number of the matrix between RGB and Y'CbCr, or the usual one for a video without a tag
    range: int  # of the values, LIMITED or FULL
    primaries: int  # FFmpeg's numbers of these tags
    transfer: int
    display: str  # the mastering display and its brightness in x265's notation; empty if unknown
    lost: tuple[str, ...]  # side data of frames that the encoder does not support

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height, upright."""
        return (self.height, self.width) if self.turn[1] else (self.width, self.height)

    @property
    def rgb(self) -> str:
        """FFmpeg's name of the pixel format in which frames are de-rained."""
        return ("rgba64le" if self.alpha else "rgb48le") if self.bits > 8 else ("rgba" if self.alpha else "rgb24")


def look_of(frame: VideoFrame, stream: VideoStream) -> Look:
    """Read it from a frame and its track."""
    components, aspect, turn = frame.format.components, stream.sample_aspect_ratio or Fraction(1), (1, 0, 0, 1)
    if matrix := frame.side_data.get("DISPLAYMATRIX"):
        a, b, _, c, d = (int(np.sign(value)) for value in np.frombuffer(matrix, np.int32, 5))
        turn = (a, b, c, d)
    return Look(
        frame.width,
        frame.height,
        turn,
        aspect=1 / aspect if turn[1] else aspect,
        bits=max(component.bits for component in components),
        alpha=any(component.is_alpha for component in components),
        matrix=frame.colorspace if frame.colorspace in _MATRICES else usual_matrix(frame.height),
        range=FULL if frame.color_range == FULL and not frame.format.is_rgb else LIMITED,
        primaries=frame.color_primaries,
        transfer=frame.color_trc,
        display=_display(frame),
        lost=tuple(what for name, what in _SIDE_DATA.items() if frame.side_data.get(name)),
    )


def usual_matrix(height: int) -> int:
    """The matrix of a video without a tag, by its number of rows."""
    return BT709 if height >= 720 else BT601


def _display(frame: VideoFrame) -> str:
    words = []
    if data := frame.side_data.get("MASTERING_DISPLAY_METADATA"):  # fractions
        pairs, units = np.frombuffer(data, np.int32, 20).reshape(10, 2).tolist(), [50000] * 8 + [10000] * 2
        values = [round(Fraction(*pair) * unit) for pair, unit in zip(pairs, units, strict=True)]
        red, green, blue, white, (dark, bright) = (values[start : start + 2] for start in range(0, 10, 2))
        numbers = (*green, *blue, *red, *white, bright, dark)
        words.append("master-display=G({},{})B({},{})R({},{})WP({},{})L({},{})".format(*numbers))
    if data := frame.side_data.get("CONTENT_LIGHT_LEVEL"):
        words.append("max-cll={},{}".format(*np.frombuffer(data, np.uint32, 2)))
    return ":".join(words)


def to_array(frame: VideoFrame, look: Look) -> np.ndarray:
    """(H, W, 3, or 4 with alpha) uint8, or uint16 for more than 8 bits; upright RGB."""
    if not frame.format.is_rgb:
        frame.colorspace, frame.color_range = _MATRICES[look.matrix], look.range
    array = frame.reformat(look.width, look.height, look.rgb, interpolation=_SCALE).to_ndarray()
    a, b, c, d = look.turn
    if b:
        array, a, d = array.swapaxes(0, 1), c, b
    return np.ascontiguousarray(array[:: d or 1, :: a or 1])


def to_frame(array: np.ndarray, look: Look, stream: VideoStream) -> VideoFrame:
    """The inverse of `to_array`, with the size and colours of the track to write."""
    frame = VideoFrame.from_ndarray(array, look.rgb).reformat(
        stream.width,
        stream.height,
        stream.pix_fmt,
        dst_colorspace=_MATRICES[stream.colorspace],
        dst_color_range=stream.color_range,
        interpolation=_SCALE,
    )
    frame.colorspace, frame.color_range = stream.colorspace, stream.color_range
    frame.color_primaries, frame.color_trc = look.primaries, look.transfer
    return frame
