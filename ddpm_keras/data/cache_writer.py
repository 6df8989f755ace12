"""The writing of a cache of decoded images, which goes on where it was interrupted."""

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np

from ddpm_keras.data.source import Block

PIXELS, LABELS, FACTS = "pixels.npy", "labels.npy", "images.json"
JOURNAL = "journal"
# Bytes that NumPy writes before pixels of four axes, whatever their number.
HEADER = 128
SECONDS = 10  # between the times at which everything read so far is made safe


class CacheWriter:
    """A folder with a part of the images, which `finish` makes a complete cache.

    Pixels are appended to one file. A line of the journal says how many of them are
    safely on the disk, and what else is known of these images.

    Args:
        folder: The folder, which may have been left by a process that was killed.
        shape: Height, width and channels of each image.
        count: Number of images at the end, at most.

    Attributes:
        stop: Index of the first image of the source that has not been read.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], count: int) -> None:
        self.folder, self.shape, self.count = folder, shape, count
        folder.mkdir(exist_ok=True)
        self._forget()
        if not self._go_on():
            shutil.rmtree(folder)
            folder.mkdir()
            self._forget()
        self._pixels = _open_at(folder / PIXELS, self._size())
        self._journal = _open_at(folder / JOURNAL, self._journal_end)
        self._new: list[Block] = []
        self._saved = time.monotonic()

    def add(self, block: Block) -> None:
        """Append a block; now and then, save."""
        self._pixels.write(np.ascontiguousarray(block.pixels))
        # Without its pixels, which would stay in memory until the next save.
        self._new.append(dataclasses.replace(block, pixels=None))
        if time.monotonic() - self._saved > SECONDS:
            self.save()

    def save(self) -> None:
        """Make everything that was added safe."""
        new, self._new = self._new, []  # no line is written twice, if this is cut off
        if new:
            _flush(self._pixels)
            line = {
                "stop": new[-1].stop,
                "ids": [name for block in new for name in block.ids],
                "classes": [c for block in new for c in block.classes or []],
                "skipped": [text for block in new for text in block.skipped],
            }
            self._journal.write(json.dumps(line).encode() + b"\n")
            _flush(self._journal)
            self._take(line)
        self._saved = time.monotonic()

    def finish(self, description: dict) -> None:
        """Write what is missing of a complete cache."""
        self.save()
        self._pixels.seek(0)
        shape = (len(self.ids), *self.shape)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._pixels, header)
        _flush(self._pixels)
        self.close()
        if self.classes:
            with (self.folder / LABELS).open("wb") as file:
                np.save(file, np.array(self.classes, "int32"))
                _flush(file)
        facts = {**description, "ids": self.ids, "skipped": self.skipped}
        with (self.folder / FACTS).open("wb") as file:
            file.write(json.dumps(facts).encode())
            _flush(file)
        (self.folder / JOURNAL).unlink()

    def close(self) -> None:
        self._pixels.close()
        self._journal.close()

    def _forget(self) -> None:
        self.stop, self.ids, self.classes, self.skipped = 0, [], [], []
        self._journal_end = 0

    def _go_on(self) -> bool:
        """Take over what a journal says; return whether the pixels fit it."""
        try:
            lines = (self.folder / JOURNAL).read_bytes().splitlines(keepends=True)
            size = (self.folder / PIXELS).stat().st_size
        except FileNotFoundError:
            return False
        for line in lines:
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError):
                break  # cut short
            self._journal_end += len(line)
        return self.stop <= self.count and self._size() <= size

    def _take(self, line: dict) -> None:
        self.stop = line["stop"]
        self.ids += line["ids"]
        self.classes += line["classes"]
        self.skipped += line["skipped"]

    def _size(self) -> int:
        """Return the size of the file with the pixels of the images that are known."""
        return HEADER + len(self.ids) * int(np.prod(self.shape))


def _open_at(path: Path, size: int):
    """Open a file to be written from `size` on; what follows there is cut off."""
    file = path.open("r+b" if path.exists() else "w+b")
    file.truncate(size)
    file.seek(size)
    return file


def _flush(file) -> None:
    file.flush()
    os.fsync(file.fileno())
