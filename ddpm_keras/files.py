"""Files that are written completely or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces `path` at the end.

    Missing folders are created. When the block fails, `path` stays as it was. The file
    is in a new folder beside `path` that only this user may open, so that in a shared
    folder nobody can put a link in its place.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        temporary = Path(folder, path.name)
        yield temporary
        os.replace(temporary, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def expand_home(path: str) -> str:
    """Write out a leading `~/`, which a shell does only where a word begins."""
    return os.path.expanduser(path) if path.startswith("~/") else path


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
