"""De-raining videos frame by frame through the programs of FFmpeg, which must be installed; the sound is kept."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multifocal_jax.data.images import find_files
from multifocal_jax.errors import UserError
from multifocal_jax.files import OutputError

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
_ENCODERS = {".webm": ("libvpx-vp9", "-crf", "24", "-b:v", "0"), ".avi": ("mpeg4", "-q:v", "2")}
_ENCODER = ("libx264", "-crf", "17", "-preset", "medium")
_WITHOUT_COLOUR_TAGS = (".avi",)
# Matrices between RGB and Y'CbCr: FFmpeg's name as a tag, and as an option of its filter `scale`.
_MATRICES = {
    "bt709": "bt709",
    "smpte170m": "smpte170m",
    "bt470bg": "bt470",
    "fcc": "fcc",
    "smpte240m": "smpte240m",
    "bt2020nc": "bt2020",
    "bt2020c": "bt2020",
}
_SCALE = "scale=flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"


class VideoError(UserError):
    """A video cannot be read, or FFmpeg is missing."""


@dataclass(frozen=True)
class _Stream:
    """What a video tells of its pictures.

    Attributes:
        width, height: as shown, which is upright.
        aspect: width to height of a pixel as shown, a fraction.
        rate: frames per second, a fraction.
        frames: how many, if the file tells it.
        matrix: between RGB and Y'CbCr, one of _MATRICES.
        range: of the values, "tv" (16 to 235) or "pc" (0 to 255).
        primaries, transfer: tags of these names, "unknown" without.
    """

    width: int
    height: int
    aspect: str
    rate: str
    frames: int | None
    matrix: str
    range: str
    primaries: str
    transfer: str


def find_videos(folder: Path) -> list[Path]:
    """Videos in a folder and below it; see `find_files`."""
    return find_files(folder, SUFFIXES)


def derain_video(
    derain: Callable[[np.ndarray], np.ndarray], source: Path, target: Path, *, progress: bool = False
) -> None:
    """De-rain every frame of a video by itself; sound and metadata are copied.

    Frames are turned upright, and a variable frame rate is kept at its mean. Pixels keep their shape, and colours their
    matrix, range and tags; a video that does not tell its matrix is taken for BT.709 from 720 rows up, else for BT.601.
    The picture is encoded anew: H.264 at a quality near to lossless, VP9 in `.webm`, MPEG-4 in `.avi`.

    Args:
        derain: a `Derainer`.
        source: the video.
        target: to be written; its suffix decides on the container.
        progress: show a bar on stderr.

    Raises:
        VideoError: FFmpeg is not installed, or it cannot read the video.
        OutputError: FFmpeg cannot write the result.
    """
    from tqdm import tqdm

    ffmpeg = shutil.which("ffmpeg")
    if not ffmpeg or not shutil.which("ffprobe"):
        raise VideoError(f"{source}: videos need FFmpeg; install it (apt install ffmpeg, brew install ffmpeg)")
    stream = _probe(source)
    width, height = stream.width, stream.height
    partial = target.absolute().with_name(f"{target.stem}.partial{target.suffix}")
    suffix = target.suffix.lower()
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24")
    file = str(source.absolute())  # a relative name with a colon would be taken for a protocol
    read = [ffmpeg, "-v", "error", "-nostdin", "-i", file, "-map", "0:v:0", "-r", stream.rate]
    read += ["-vf", f"{_SCALE}:in_color_matrix={_MATRICES[stream.matrix]}:in_range={stream.range}", *raw, "-"]
    write = [ffmpeg, "-v", "error", "-nostdin", "-y", *raw, "-s", f"{width}x{height}", "-r", stream.rate, "-i", "-"]
    write += ["-i", file, "-map", "0:v", "-map", "1:a?", "-map_metadata", "1", "-c:a", "copy"]
    write += ["-vf", _conversion(stream, tagged=suffix not in _WITHOUT_COLOUR_TAGS)]
    write += ["-metadata:s:v", "rotate=0", "-c:v", *_ENCODERS.get(suffix, _ENCODER)]
    write += ["-pix_fmt", "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p", str(partial)]
    with tempfile.TemporaryFile() as read_log, tempfile.TemporaryFile() as write_log:
        reader = subprocess.Popen(read, stdout=subprocess.PIPE, stderr=read_log)
        writer = subprocess.Popen(write, stdin=subprocess.PIPE, stderr=write_log)
        assert reader.stdout is not None
        assert writer.stdin is not None
        try:
            with tqdm(
                total=stream.frames, unit="frame", disable=not progress, desc=source.name, dynamic_ncols=True
            ) as bar:
                while len(data := reader.stdout.read(width * height * 3)) == width * height * 3:
                    frame = np.frombuffer(data, np.uint8).reshape(height, width, 3)
                    writer.stdin.write(derain(frame).tobytes())
                    bar.update(1)
            writer.stdin.close()
            if reader.wait() != 0:
                raise VideoError(f"{source} cannot be read to its end: {_last_line(read_log)}")
            if writer.wait() != 0:
                raise OutputError(f"{target} cannot be written: {_last_line(write_log)}")
            partial.replace(target)
        except BrokenPipeError:
            writer.wait()
            raise OutputError(f"{target} cannot be written: {_last_line(write_log)}") from None
        finally:
            for process in (reader, writer):
                if process.poll() is None:
                    process.kill()
                    process.wait()
            reader.stdout.close()
            partial.unlink(missing_ok=True)


def _probe(source: Path) -> _Stream:
    """Ask ffprobe."""
    entries = "width,height,avg_frame_rate,nb_frames,sample_aspect_ratio"
    entries = f"stream={entries},color_space,color_range,color_primaries,color_transfer:stream_side_data=rotation"
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", entries, "-of", "json"]
    result = subprocess.run([*command, str(source.absolute())], capture_output=True, text=True, check=False)
    streams: list[dict[str, Any]] = json.loads(result.stdout or "{}").get("streams", [])
    if result.returncode or not streams:
        lines = result.stderr.strip().splitlines() or ["it holds no pictures"]
        raise VideoError(f"video {source} cannot be read: {lines[-1]}")
    stream = streams[0]
    sides, aspect = (stream["width"], stream["height"]), stream.get("sample_aspect_ratio", "").split(":")
    if len(aspect) != 2 or "0" in aspect:  # 0:1 says that nobody knows
        aspect = ["1", "1"]
    if any(side.get("rotation", 0) % 180 for side in stream.get("side_data_list", [])):
        sides, aspect = sides[::-1], aspect[::-1]
    matrix, frames = stream.get("color_space", ""), stream.get("nb_frames", "")
    primaries, transfer = (stream.get(f"color_{tag}", "reserved") for tag in ("primaries", "transfer"))
    return _Stream(
        *sides,
        aspect="/".join(aspect),
        rate=stream["avg_frame_rate"],
        frames=int(frames) if frames.isdigit() else None,
        matrix=matrix if matrix in _MATRICES else _usual_matrix(stream["height"]),
        range="pc" if stream.get("color_range") == "pc" and matrix != "gbr" else "tv",
        primaries="unknown" if primaries == "reserved" else primaries,
        transfer="unknown" if transfer == "reserved" else transfer,
    )


def _usual_matrix(height: int) -> str:
    """That of a video which does not say."""
    return "bt709" if height >= 720 else "smpte170m"


def _conversion(stream: _Stream, tagged: bool) -> str:
    """FFmpeg's filters from RGB to a video like `stream`; one that takes no tags gets the usual matrix and range."""
    matrix, values = (stream.matrix, stream.range) if tagged else (_usual_matrix(stream.height), "tv")
    tags = f"colorspace={matrix}:range={values}:color_primaries={stream.primaries}:color_trc={stream.transfer}"
    scale = f"{_SCALE}:out_color_matrix={_MATRICES[matrix]}:out_range={values}"
    return f"{scale},setparams={tags},setsar=sar={stream.aspect}:max=100000"


def _last_line(log: Any) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "FFmpeg does not say why"
