"""De-rains what visitors of the page have uploaded."""

import functools
import io
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from multifocal_jax.data.images import PILLOW_ERRORS
from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.inference import Derainer, TooLargeError, load
from multifocal_jax.evaluation.memory import spell
from multifocal_jax.evaluation.progress import Compiling, Progress, Running, Tiling
from multifocal_jax.media.animations import FORMATS
from multifocal_jax.media.derain_files import derain_contents
from multifocal_jax.web.visits import Visits

_SHOWN = 1920  # longest side in pixels of what the page shows

Tell = Callable[[float, str], object]  # is told the share that is done, 0 to 1, and what is being done


class LimitError(UserError):
    """A picture exceeds the page's limits."""


class _LeftError(Exception):
    """The visitor has left while a picture was computed."""


@dataclass(frozen=True)
class Limits:
    """What a visitor may ask for."""

    megabytes: int = 50  # of one file, 2**20 bytes each
    megapixels: int = 50  # of one picture; the frames of an animation count together
    pictures: int = 50  # at a time

    def frames(self, data: bytes, name: str) -> int:
        """The number of frames of a picture file, found in its header; 1 if it cannot be read, which others report.

        Raises:
            LimitError: it has too many pixels.
        """
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as picture:
                frames = getattr(picture, "n_frames", 1) if picture.format in FORMATS else 1
                width, height = picture.size
        except PILLOW_ERRORS:
            return 1
        if width * height * frames > self.megapixels * 10**6:
            size = f"{frames} frames of {width}×{height}" if frames > 1 else f"{width}×{height}"
            raise LimitError(f"{name} has {size} pixels; {self.megapixels} million are allowed here")
        return frames


@dataclass(frozen=True)
class Options:
    """A visitor's choices, as those of `load`."""

    weights: str
    strength: float
    tile: int | None
    ensemble: bool


@dataclass(frozen=True)
class Result:
    """Files of a de-rained picture."""

    file: Path  # to download
    before: Path  # to look at, as is `after`
    after: Path


class Worker:
    """De-rains files for visitors, one call at a time, and remembers the network that was used last."""

    def __init__(self, visits: Visits, limits: Limits) -> None:
        self._visits, self._limits = visits, limits
        self._report: Callable[[Progress], None] = lambda _: None
        self._load = functools.lru_cache(1)(self._loaded)

    def _loaded(self, options: Options) -> Derainer:
        return load(
            options.weights,
            tile=options.tile,
            ensemble=options.ensemble,
            strength=options.strength,
            progress=lambda progress: self._report(progress),
        )

    def __call__(
        self, visit: str | None, uploads: Sequence[str], options: Options, tell: Tell
    ) -> tuple[list[Result], list[str]]:
        """De-rain files.

        Args:
            visit: its name; the call ends when it is over.
            uploads: paths of the files.
            options: applied to all of them.
            tell: called before every file and about every second.

        Returns:
            The results, and a line for every file that failed.
        """
        if len(uploads) > self._limits.pictures:
            return [], [f"{len(uploads)} pictures; {self._limits.pictures} are allowed here at a time"]
        results, failed = [], []
        folder = self._visits.begin(visit).folder
        for index, path in enumerate(map(Path, uploads)):

            def at(share: float, what: str, index: int = index, name: str = path.name) -> None:
                if visit not in self._visits:
                    raise _LeftError
                tell((index + share) / len(uploads), f"{index + 1} of {len(uploads)}, {name}: {what}")

            try:
                results.append(self._derain(path, folder, options, at))
            except _LeftError:
                return [], []
            except TooLargeError as error:
                failed.append(f"{path.name}: {error}" + ("" if options.tile is None else "; choose automatic tiles"))
            except UserError as error:
                failed.append(str(error) if path.name in str(error) else f"{path.name}: {error}")
            except OSError as error:
                failed.append(f"{path.name}: {error.strerror}; add it again")
        return results, failed

    def _derain(self, path: Path, folder: Path, options: Options, tell: Tell) -> Result:
        tell(0, "reading")
        data = path.read_bytes()
        frames, done = self._limits.frames(data, path.name) * (8 if options.ensemble else 1), 0

        def report(progress: Progress) -> None:
            nonlocal done
            match progress:
                case Compiling(height, width):
                    tell(done / frames, f"preparing for {width}×{height} pixels, once per size")
                case Tiling(tile=tile, needed=needed):
                    tell(done / frames, f"in tiles of {tile} pixels, as the whole needs {spell(needed)}")
                case Running(done=tiles, total=total, seconds=seconds, expected=expected):
                    share = tiles / total if total > 1 or not expected else min(seconds / expected, 0.99)
                    tell(min((done + share) / frames, 1), f"{seconds:.0f} s")
                    done += tiles == total

        tell(0, "loading the network")
        derainer = self._load(options)
        self._report = report
        contents, *sides = derain_contents(derainer, data, path.name)
        place = Path(tempfile.mkdtemp(dir=folder))  # of its own, as names may be equal
        result = Result(place / f"{path.stem}-derained{path.suffix}", place / "before.webp", place / "after.webp")
        result.file.write_bytes(contents)
        for pixels, shown in zip(sides, (result.before, result.after), strict=True):
            picture = Image.fromarray(pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8))
            picture.thumbnail((_SHOWN, _SHOWN))
            picture.save(shown, quality=90)
        return result
