"""De-rains animated pictures (GIF, WebP, PNG) frame by frame; timing, repetition and transparency are kept."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from multifocal_jax.data.images import PILLOW_ERRORS, one_line, upright
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation import memory
from multifocal_jax.files import OutputError
from multifocal_jax.media.photographs import PhotographError, fitting_options, kept_options

FORMATS = ("GIF", "WEBP", "PNG")


@dataclass(frozen=True)
class Animation:
    """A decoded animation."""

    frames: list[np.ndarray]  # (H, W, 4) uint8 RGBA each, as shown
    milliseconds: list[float]  # duration of each frame
    plays: int  # number of repetitions; 0: forever
    poster: bool  # whether the first frame is a PNG's picture for programs without animations, and not part of this one
    format: str  # Pillow's name of the file format
    options: dict[str, Any] = field(default_factory=dict)  # as of a `Photograph`


def is_animation(data: bytes) -> bool:
    """Whether the contents of a file are an animation; False for anything that cannot be opened."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
            return picture.format in FORMATS and getattr(picture, "n_frames", 1) > 1
    except PILLOW_ERRORS:
        return False


def derain_animation(
    derain: Callable[[np.ndarray], np.ndarray], data: bytes, name: str, *, progress: bool = False
) -> Animation:
    """De-rain the contents of a file for which `is_animation` holds, frame by frame, with a bar on stderr if wanted.

    Raises:
        PhotographError: a frame cannot be read, or the frames do not fit into memory.
    """
    from tqdm import tqdm

    frames, milliseconds = [], []
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
            count, (width, height) = getattr(picture, "n_frames", 1), picture.size
            needed, free = 2 * 4 * width * height * count, memory.available_on_host()
            if needed > free:
                raise PhotographError(
                    f"animation {name} has {count} frames of {width}x{height} pixels, which need "
                    f"{memory.spell(needed)}, and {memory.spell(free)} are free; make a video of it: "
                    f"ffmpeg -i {name} film.mp4"
                )
            for index in range(count):
                picture.seek(index)
                frames.append(np.array(upright(picture).convert("RGBA")))
                milliseconds.append(float(picture.info.get("duration", 0)))
            kind = picture.format or ""
            plays = picture.info.get("loop", 1 if kind == "GIF" else 0)
            poster = bool(picture.info.get("default_image"))
            options = kept_options(picture, kind, data)
            if kind == "GIF" and "loop" in picture.info:  # written again as it is, also if it says once
                options["loop"] = plays
    except UserError:
        raise
    except PILLOW_ERRORS as error:
        raise PhotographError(f"animation {name} cannot be read: {one_line(error)}") from None
    for frame in tqdm(frames, unit="frame", disable=not progress, desc=name, dynamic_ncols=True):
        frame[..., :3] = derain(frame[..., :3])
    return Animation(frames, milliseconds, plays, poster, kind, options)


def encode_animation(animation: Animation, kind: str, name: str) -> bytes:
    """Encode an animation as the contents of a file of Pillow's format `kind`, called `name` in errors.

    Raises:
        OutputError: the format does not support animations, or these.
    """
    check_animated(kind, name)
    options = fitting_options(animation.options, kind, same=kind == animation.format)
    opaque = all(frame[..., 3].min() == 255 for frame in animation.frames)
    if kind != "GIF" or animation.plays != 1:  # a GIF that says nothing is shown once
        options["loop"] = animation.plays
    if kind == "GIF" and not opaque:
        options["disposal"] = 2  # each frame begins on an empty canvas
    frames, milliseconds = animation.frames, animation.milliseconds
    if animation.poster and kind == "PNG":
        options["default_image"] = True
        milliseconds = milliseconds[1:]  # the poster has no time
    elif animation.poster:
        frames, milliseconds = frames[1:], milliseconds[1:]
    duration = milliseconds if kind == "PNG" else [round(time) for time in milliseconds]
    first, *others = (Image.fromarray(frame[..., :3] if opaque else frame) for frame in frames)
    file = io.BytesIO()
    try:
        first.save(file, kind, save_all=True, append_images=others, duration=duration, **options)
    except PILLOW_ERRORS as error:
        raise OutputError(f"{name} cannot be written as {kind}: {one_line(error)}") from None
    return file.getvalue()


def check_animated(kind: str, name: str) -> None:
    """Raise OutputError, which calls the file `name`, if Pillow's format `kind` cannot hold an animation."""
    if kind not in FORMATS:
        raise OutputError(f"{name}: {kind} holds no animation; choose .gif, .webp or .png")


def first_frame(data: bytes) -> np.ndarray:
    """(H, W, 3) uint8 of an animation that could be read."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.array(upright(picture).convert("RGB"))
