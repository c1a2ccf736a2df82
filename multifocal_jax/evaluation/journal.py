"""Scores on disk as soon as they are known, so that an interrupted evaluation can be resumed."""

import json
import time
from pathlib import Path
from typing import Any, Self, TextIO

from multifocal_jax.errors import UserError
from multifocal_jax.evaluation.report import PictureScores, picture_from_dict, picture_to_dict
from multifocal_jax.paths import Mirror

FILE = "scores.jsonl"


class JournalError(UserError):
    """The scores on disk belong to another evaluation."""


class Journal:
    """`scores.jsonl` in a folder: one line that says what is scored, the `record`, then one line per picture.

    All processes but the first write their own files next to it, which the first merges when it resumes. Without
    `resume` the file is started afresh; without a folder nothing is written.

    Attributes:
        done: pictures scored already, by name.
        taken_over: whether another file has the contents of this one, so that it is removed at the end.

    Raises:
        JournalError: `resume` finds the scores of another evaluation.
    """

    def __init__(self, folder: Path | None, record: dict[str, Any], resume: bool, process: int = 0) -> None:
        name = f"scores.{process}-{time.time_ns()}.jsonl" if process else FILE
        self._path = folder / name if folder else None
        self._header = json.dumps({"record": record})
        self._file: TextIO | None = None
        self._mirror: Mirror | None = None
        self.done: dict[str, PictureScores] = {}
        self.taken_over = False
        # of processes that were interrupted
        self._parts = sorted(folder.glob("scores.*-*.jsonl")) if folder and not process else []
        if resume and self._path and self._path.is_file():
            for path in [self._path, *self._parts]:
                self._read(path)

    def _read(self, path: Path) -> None:
        header, whole, lines = path.read_text().partition("\n")
        if not (header and whole):
            return  # cut off before the first score
        if header != self._header:
            raise JournalError(f"{path} was begun with another config or other weights; begin anew without resuming")
        for line in lines.splitlines():
            try:
                picture = picture_from_dict(json.loads(line))
            except (ValueError, KeyError):
                continue  # the line that was being written when it was interrupted
            self.done[picture.name] = picture

    def __enter__(self) -> Self:
        if self._path:
            self._mirror = Mirror(self._path.parent, *([self._path.name] if self.done else []))
            self._file = (self._mirror.folder / self._path.name).open("a" if self.done else "w")
            self._write("" if self.done else self._header)  # an empty line ends one that was cut short
            if self._parts:
                for picture in self.done.values():  # those of the parts; of two lines for a picture the last counts
                    self.add(picture)
                self._mirror.update(at_once=True)
            for part in self._parts:
                part.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
        if self._mirror:
            self._mirror.close()
        if self.taken_over and self._path:
            self._path.unlink()

    def add(self, picture: PictureScores) -> None:
        """Write down one more picture."""
        self._write(json.dumps(picture_to_dict(picture)))

    def _write(self, line: str) -> None:
        if self._file:
            print(line, file=self._file, flush=True)
        if self._mirror:
            self._mirror.update()
