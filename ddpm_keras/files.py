"""Files that are written completely or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`, which replaces it at the end.

    Missing folders are created. When the block fails, `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def can_be_written(path: str | Path) -> bool:
    """Check that the nearest existing folder of a file or folder is writable."""
    path = Path(path).absolute()
    places = path.parents if path.is_file() else (path, *path.parents)
    nearest = next(place for place in places if place.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK)


def remove_temporary_files(folder: str | Path) -> None:
    """Remove temporary files and folders below `folder`, left by killed processes.

    No other process may be writing there.
    """
    for path in sorted(Path(folder).rglob(".*.tmp")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
