"""The `folder` data set: every image below a folder."""

import functools
import hashlib
import os
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_keras.data.classes import find_classes, number_classes
from ddpm_keras.data.folder_files import find_files, image_ids
from ddpm_keras.data.image_files import KINDS, BrokenImageError, read_pixels
from ddpm_keras.data.images import Images
from ddpm_keras.data.source import Block, Source, block_ranges, in_order
from ddpm_keras.errors import InputError

# Files named in one message; if there are more broken images, a file lists them all.
MOST_NAMED = 20


class FolderSource(Source):
    """Every image below a folder, in the order of their paths, which identify them.

    Other files are left out, with a line on stderr.

    Args:
        folder: The folder.
        shape: Height, width and channels of each image of the result.
        background: Colour behind transparent pixels.
        skip_bad: Whether broken images are left out, with a line on stderr.
        labelled: Whether they get labels.

    Raises:
        InputError: As `find_files` and `find_classes`.
    """

    def __init__(
        self,
        folder: str,
        shape: tuple[int, int, int],
        background: str = "white",
        skip_bad: bool = False,
        labelled: bool = False,
    ) -> None:
        self.folder, self.shape, self.background = folder, shape, background
        self.skip_bad, self.labelled = skip_bad, labelled
        self.paths, others = find_files(folder)
        self.ids = image_ids(folder, self.paths)
        self.count = len(self.paths)
        if others:
            _tell_of_others(folder, image_ids(folder, others))
        if labelled:
            find_classes(folder, self.ids)  # before any image is read

    def describe(self) -> dict[str, Any]:
        """Return the folder, and a hash of its images' names, sizes and times."""
        files = hashlib.sha256("\n".join(self.ids).encode("utf-8", "surrogatepass"))
        files.update(_sizes_and_times(self.paths))
        folder = os.path.realpath(self.folder)
        return {
            "source": "folder",
            "folder": folder,
            "files": files.hexdigest(),
            "background": self.background,
        }

    def blocks(self, first: int, executor: Executor) -> Iterator[Block]:
        ranges = block_ranges(first, self.count, self.shape)
        return in_order(executor, map(self._task, ranges))

    def _task(self, indices: range) -> Callable[[], Block]:
        some = slice(indices.start, indices.stop)
        names = self.paths[some], self.ids[some]
        how = self.shape, self.background
        return functools.partial(_read_files, *names, *how, indices.stop)

    def finish(self, whole: Block, digests: Path | None = None) -> Images:
        ids, skipped = whole.ids, whole.skipped
        if skipped:
            _skip(self.folder, skipped, self.count, self.skip_bad)
        labels, names = None, ()
        if self.labelled:
            labels, names = number_classes(find_classes(self.folder, ids))
        return Images(whole.pixels, labels, names, ids, tuple(skipped), digests)


def _read_files(
    paths: list[str],
    ids: list[str],
    shape: tuple[int, int, int],
    background: str,
    stop: int,
) -> Block:
    """Decode and fit some images.

    Raises:
        InputError: When the system does not give one that may be good. To leave it
            out, now or from the cache for ever, would be to train on other images.
    """
    good, names, skipped = [], [], []
    for path, name in zip(paths, ids, strict=True):
        try:
            good.append(read_pixels(path, *shape, background))
            names.append(name)
        except BrokenImageError as error:
            if not error.lasting:
                raise InputError(
                    f"data_dir: cannot read {_printable(path)} ({error.reason}), which "
                    "may be a good image and is not left out; make it readable or "
                    "remove it, and start again"
                ) from error
            skipped.append(f"{_printable(name)} ({error.reason})")
    pixels = np.array(good, "uint8").reshape(-1, *shape)
    return Block(pixels, names, None, skipped, stop)


def _sizes_and_times(paths: list[str]) -> array:
    """Return what changes with the content of files, two numbers for each."""
    numbers = array("q")
    for path in paths:
        try:
            found = os.stat(path)
            numbers.extend((found.st_size, found.st_mtime_ns))
        except OSError:  # a link to nowhere, for example
            numbers.extend((-1, -1))
    return numbers


def _tell_of_others(folder: str, names: list[str]) -> None:
    """Print which files are no images."""
    first, more = (
        ", ".join(map(_printable, names[:MOST_NAMED])),
        len(names) - MOST_NAMED,
    )
    if more > 0:
        first += f" and {more:,} more"
    heif = KINDS["HEIF"]
    hint = ""
    if any(name.lower().endswith(heif) for name in names):
        hint = "; to read HEIC, run pip install pillow-heif"
    print(
        f"data_dir: {len(names):,} files in {_printable(str(folder))} are no images of "
        f"a kind that is read here and are left out: {first}{hint}",
        file=sys.stderr,
    )


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
