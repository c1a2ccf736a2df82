"""Who is on the page, and the files of each, which are deleted when they leave."""

import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Visit:
    """The files of a visitor."""

    folder: Path  # of results
    uploads: set[Path] = field(default_factory=set)


class Visits:
    """The visits that go on.

    Args:
        root: folder of all files; Gradio puts uploads there, equal ones of several visitors in the same place.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._visits, self._lock = root, {}, threading.Lock()

    def begin(self, name: str | None) -> Visit:
        """The visit of this name, a new one if it is unknown."""
        with self._lock:
            if name not in self._visits:
                self._visits[name] = Visit(Path(tempfile.mkdtemp(dir=self._root)))
            return self._visits[name]

    def __contains__(self, name: str | None) -> bool:
        return name in self._visits

    def end(self, name: str | None) -> None:
        """Delete the files of a visit; after the last one, whatever is left."""
        with self._lock:
            visit = self._visits.pop(name, None)
            others = {upload for other in self._visits.values() for upload in other.uploads}
            gone = [] if visit is None else [visit.folder, *(visit.uploads - others)]
            for path in gone if self._visits else self._root.iterdir():
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
