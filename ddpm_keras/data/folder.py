"""The `folder` data set: every image below a folder."""

import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_keras.data.classes import find_classes, number_classes
from ddpm_keras.data.images import Images
from ddpm_keras.data.pixels import BrokenImageError, decode_image, fit_image
from ddpm_keras.data.source import Block, Source, block_ranges, in_order
from ddpm_keras.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
# Broken images named in one message; if there are more, a file lists them all.
MOST_NAMED = 20


def find_images(folder: str | None) -> list[str]:
    """Return the paths of all images below a folder, sorted.

    Hidden files and folders are skipped, and so are links to folders, which may form a
    loop.

    Raises:
        InputError: When no folder is named, or it does not exist, holds no image or
            cannot be listed.
    """
    if folder is None:
        raise InputError(
            "data_dir: dataset_name folder needs it; name the folder of the images"
        )
    found_none = f"0 images found in {folder} (looked for {', '.join(IMAGE_SUFFIXES)})"
    if not os.path.isdir(folder):
        raise InputError(
            f"data_dir: {found_none}: it is not a folder; name one that holds some"
        )
    paths = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [
            os.path.join(parent, name)
            for name in names
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    if not paths:
        raise InputError(f"data_dir: {found_none}; name a folder that holds some")
    return sorted(paths)


def image_ids(folder: str, paths: list[str]) -> list[str]:
    """Return paths found by `find_images` relative to the folder, with "/"."""
    start = len(os.path.join(folder, ""))
    return [path[start:].replace(os.sep, "/") for path in paths]


class FolderSource(Source):
    """Every image below a folder, in the order of their paths, which identify them.

    Args:
        folder: The folder.
        shape: Height, width and channels of each image of the result.
        skip_bad: Whether images that cannot be read are left out, with a line on
            stderr.
        labelled: Whether they get labels.

    Raises:
        InputError: As `find_images` and `find_classes`.
    """

    def __init__(
        self,
        folder: str,
        shape: tuple[int, int, int],
        skip_bad: bool = False,
        labelled: bool = False,
    ) -> None:
        self.folder, self.shape = folder, shape
        self.skip_bad, self.labelled = skip_bad, labelled
        self.paths = find_images(folder)
        self.ids = image_ids(folder, self.paths)
        self.count = len(self.paths)
        if labelled:
            find_classes(folder, self.ids)  # before any image is read

    def describe(self) -> dict[str, Any]:
        """Return the folder, and a hash of its images' names, sizes and times."""
        files = hashlib.sha256()
        for path, name in zip(self.paths, self.ids, strict=True):
            files.update(f"{name!r}{_size_and_time(path)}".encode())
        folder = os.path.realpath(self.folder)
        return {"source": "folder", "folder": folder, "files": files.hexdigest()}

    def blocks(self, first: int, executor: Executor) -> Iterator[Block]:
        ranges = block_ranges(first, self.count, self.shape)
        return in_order(executor, map(self._task, ranges))

    def _task(self, indices: range) -> Callable[[], Block]:
        some = slice(indices.start, indices.stop)
        names = self.paths[some], self.ids[some]
        return functools.partial(_read_files, *names, self.shape, indices.stop)

    def finish(
        self,
        pixels: np.ndarray,
        ids: list[str],
        classes: None,
        skipped: list[str],
        digests: Path | None = None,
    ) -> Images:
        if skipped:
            _skip(self.folder, skipped, self.count, self.skip_bad)
        labels, names = None, ()
        if self.labelled:
            labels, names = number_classes(find_classes(self.folder, ids))
        return Images(pixels, labels, names, ids, tuple(skipped), digests)


def _read_files(
    paths: list[str], ids: list[str], shape: tuple[int, int, int], stop: int
) -> Block:
    """Decode and fit some images."""
    *size, channels = shape
    good, names, skipped = [], [], []
    for path, name in zip(paths, ids, strict=True):
        try:
            good.append(fit_image(decode_image(path, channels), *size))
            names.append(name)
        except BrokenImageError as error:
            skipped.append(f"{_printable(name)} ({error.reason})")
    pixels = np.array(good, "uint8").reshape(-1, *shape)
    return Block(pixels, names, None, skipped, stop)


def _size_and_time(path: str) -> tuple[int, int] | None:
    """Return what changes with a file's content; None if there is no file."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _skip(folder: str, lines: list[str], count: int, skip_bad: bool) -> None:
    """Tell which images cannot be read, by a line on each; or raise."""
    first, more = ", ".join(lines[:MOST_NAMED]), len(lines) - MOST_NAMED
    if more > 0:
        first += f" and {more} more"
    where = _printable(str(folder))
    problem = f"data_dir: {len(lines)} of {count} images in {where} cannot be read"
    some_good = len(lines) < count
    if skip_bad and some_good:
        print(f"{problem} and are left out: {first}", file=sys.stderr)
        return
    listed = f", all listed in {_write_list(lines)}" if more > 0 else ""
    rest = ", or train on the rest with --skip_bad true" if some_good else ""
    raise InputError(f"{problem}: {first}{listed}; remove or replace each{rest}")


def _refuse(error: OSError) -> None:
    """Stop `os.walk`, which would skip the folder without a word."""
    raise InputError(
        f"data_dir: cannot list {error.filename} ({error.strerror}); check its "
        "permissions, or name another folder"
    ) from error


def _printable(name: str) -> str:
    """Quote a file name that does not fit on a line or in any encoding."""
    return name if name.isprintable() else repr(name)


def _write_list(lines: list[str]) -> str:
    """Write lines to a new temporary file and return its path."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="bad_images_", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.writelines(f"{line}\n" for line in lines)
    return file.name
