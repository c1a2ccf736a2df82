"""De-raining videos frame by frame through the programs of FFmpeg, which must be installed; the sound is kept."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.files import OutputError

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")
_ENCODERS = {".webm": ("libvpx-vp9", "-crf", "24", "-b:v", "0"), ".avi": ("mpeg4", "-q:v", "2")}
_ENCODER = ("libx264", "-crf", "17", "-preset", "medium")


class VideoError(UserError):
    """A video cannot be read, or FFmpeg is missing."""


def find_videos(folder: Path) -> list[Path]:
    """Videos in a folder and below it, told by their suffix, sorted by path; hidden ones are left out."""
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in files if name.lower().endswith(SUFFIXES) and name[0] != "."]
    return sorted(found)


def derain_video(
    derain: Callable[[np.ndarray], np.ndarray], source: Path, target: Path, *, progress: bool = False
) -> None:
    """De-rain every frame of a video by itself; sound and metadata are copied.

    Frames are turned upright, and a variable frame rate is kept at its mean. The picture is encoded anew: H.264 at a
    quality near to lossless, VP9 in `.webm`, MPEG-4 in `.avi`.

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
    width, height, rate, frames = _probe(source)
    partial = target.with_name(f"{target.stem}.partial{target.suffix}")
    encoder = _ENCODERS.get(target.suffix.lower(), _ENCODER)
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24")
    read = [ffmpeg, "-v", "error", "-nostdin", "-i", str(source), "-map", "0:v:0", "-r", rate, *raw, "-"]
    write = [ffmpeg, "-v", "error", "-nostdin", "-y", *raw, "-s", f"{width}x{height}", "-r", rate, "-i", "-"]
    write += ["-i", str(source), "-map", "0:v", "-map", "1:a?", "-map_metadata", "1", "-c:a", "copy"]
    write += ["-metadata:s:v", "rotate=0", "-c:v", *encoder]
    write += ["-pix_fmt", "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p", str(partial)]
    with tempfile.TemporaryFile() as read_log, tempfile.TemporaryFile() as write_log:
        reader = subprocess.Popen(read, stdout=subprocess.PIPE, stderr=read_log)
        writer = subprocess.Popen(write, stdin=subprocess.PIPE, stderr=write_log)
        assert reader.stdout is not None
        assert writer.stdin is not None
        try:
            with tqdm(total=frames, unit="frame", disable=not progress, desc=source.name, dynamic_ncols=True) as bar:
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


def _probe(source: Path) -> tuple[int, int, str, int | None]:
    """Width and height as shown, frames per second as a fraction, and the number of frames if the file tells it."""
    entries = "stream=width,height,avg_frame_rate,nb_frames:stream_side_data=rotation"
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries", entries, "-of", "json"]
    result = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    streams: list[dict[str, Any]] = json.loads(result.stdout or "{}").get("streams", [])
    if result.returncode or not streams:
        lines = result.stderr.strip().splitlines() or ["it holds no pictures"]
        raise VideoError(f"video {source} cannot be read: {lines[-1]}")
    stream = streams[0]
    width, height = stream["width"], stream["height"]
    turned = any(side.get("rotation", 0) % 180 for side in stream.get("side_data_list", []))
    frames = stream.get("nb_frames", "")
    return (
        *((height, width) if turned else (width, height)),
        stream["avg_frame_rate"],
        int(frames) if frames.isdigit() else None,
    )


def _last_line(log: Any) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "FFmpeg does not say why"
