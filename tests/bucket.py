"""A bucket in memory in the place of Google Cloud Storage, behind the very layer (fsspec) that epath finds gcsfs by."""

from contextlib import contextmanager

import fsspec
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry


class Bucket(MemoryFileSystem):
    """gs:// in memory. As in a bucket, an object is written whole, and a folder is there while it holds an object."""

    protocol = "gs"
    store = {}  # noqa: RUF012  # of the class, as fsspec's own
    pseudo_dirs = [""]  # noqa: RUF012
    root_marker = "/"

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("gs://")) if isinstance(path, str) else path

    def mkdir(self, path, create_parents=True, **options):
        pass

    def makedirs(self, path, exist_ok=False):
        pass

    def open(self, path, mode="rb", **options):
        if "a" in mode or "+" in mode:
            raise NotImplementedError("objects in a bucket cannot be appended to")
        return super().open(path, mode, **options)


@contextmanager
def installed():
    """Let gs:// mean an empty bucket in memory for a while."""
    Bucket.store.clear()
    Bucket.pseudo_dirs[:] = [""]
    fsspec.register_implementation("gcs", Bucket, clobber=True)
    try:
        yield
    finally:
        _registry.pop("gcs")
        backend.fsspec_backend._get_filesystem.cache_clear()
