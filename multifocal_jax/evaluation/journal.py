"""Scores on disk as soon as they are known, so that an interrupted evaluation can go on."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.report import PictureScores, picture_from_dict, picture_to_dict
from multifocal_jax.paths import Mirror

FILE = "scores.jsonl"


class JournalError(UserError):
    """The scores on disk are those of something else."""


class Journal:
    """`scores.jsonl`: one line that says what is scored, then one line per picture.

    Attributes:
        done: the pictures that are there already, by name.

    Args:
        folder: of the file; None keeps nothing.
        record: what is scored; JSON types.
        resume: go on with the file that is there; otherwise it is begun anew.

    Raises:
        JournalError: `resume` finds the scores of something else.
    """

    def __init__(self, folder: Path | None, record: dict[str, Any], resume: bool) -> None:
        self._path = folder / FILE if folder else None
        self._header = json.dumps({"record": record})
        self._file: TextIO | None = None
        self._mirror: Mirror | None = None
        self.done: dict[str, PictureScores] = {}
        if resume and self._path and self._path.is_file():
            self._read(self._path)

    def _read(self, path: Path) -> None:
        header, *lines = path.read_text().splitlines() or [""]
        if header != self._header:
            raise JournalError(
                f"{path} was begun with another config or other weights; leave out --resume to begin anew"
            )
        for line in lines:
            try:
                picture = picture_from_dict(json.loads(line))
            except (ValueError, KeyError):
                continue  # the line that was being written when it was interrupted
            self.done[picture.name] = picture

    def __enter__(self) -> Self:
        if self._path:
            self._mirror = Mirror(self._path.parent, *([FILE] if self.done else []))
            self._file = (self._mirror.folder / FILE).open("a" if self.done else "w")
            self._write("" if self.done else self._header)  # an empty line ends one that was cut short
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()
        if self._mirror:
            self._mirror.close()

    def add(self, picture: PictureScores) -> None:
        """Write down one more picture."""
        self._write(json.dumps(picture_to_dict(picture)))

    def _write(self, line: str) -> None:
        if self._file:
            print(line, file=self._file, flush=True)
        if self._mirror:
            self._mirror.update()
