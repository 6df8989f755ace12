"""Files that appear whole or not at all, and what a killed process leaves of them."""

import contextlib
import os
import shutil
from pathlib import Path


@contextlib.contextmanager
def written_whole(path):
    """Write to a temporary file beside `path`, which replaces it at the end.

    Folders are made. When the block fails, `path` stays as it was.

    Args:
        path: The file to write.

    Yields:
        The path of the temporary file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def can_be_written(path):
    """Whether a file or a folder can be: as the nearest folder that exists allows."""
    path = Path(path).absolute()
    places = path.parents if path.is_file() else (path, *path.parents)
    nearest = next(place for place in places if place.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK)


def remove_temporary_files(folder):
    """Remove the files and folders that killed processes left below a folder.

    No other process may be writing there.
    """
    for path in sorted(Path(folder).rglob(".*.tmp")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
