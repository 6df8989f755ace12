"""Files and folders that are written completely or not at all."""

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield the path for a temporary file or folder, which becomes `path` at the end.

    Missing folders are created. When the block fails, `path` stays as it was. A folder
    takes no place but an empty one. The temporary file is in a new folder beside `path`
    that only this user may open, so that in a shared folder nobody can put a link in
    its place.
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


def force_to_disk(path: str | Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Rename a file or folder to end in `.bad`, or `.bad1` and so on; return it."""
    names = (f"{path.name}.bad{number or ''}" for number in itertools.count())
    free = (name for name in names if not path.with_name(name).exists())
    return path.rename(path.with_name(next(free)))
