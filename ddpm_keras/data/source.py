"""What every source of images offers: blocks of decoded images, in a fixed order."""

import abc
import collections
import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_keras.data.images import Images, LazyPixels
from ddpm_keras.errors import InputError
from ddpm_keras.memory import total_memory
from ddpm_keras.progress import Progress

BLOCK, BLOCK_BYTES = 64, 2**20  # most images, and about most pixels, of a block
AHEAD = 64  # blocks that may be read before the one that is waited for


@dataclasses.dataclass
class Block:
    """Decoded images that follow each other in their source.

    Attributes:
        pixels: uint8 array of shape `(num_images, height, width, channels)`, or
            `LazyPixels`; None where they are stored already.
        ids: What identifies each of them.
        classes: The class of each, a number, or None if the source need not store it.
        skipped: "name (reason)" of each image that could not be read.
        stop: Index of the first image of the source after the block.
    """

    pixels: np.ndarray | LazyPixels | None
    ids: list[str]
    classes: list[int] | None
    skipped: list[str]
    stop: int


class Source(abc.ABC):
    """Images that are read block by block, into memory or into a cache on disk.

    Attributes:
        shape: Height, width and channels of each image.
        count: Number of images, with those that cannot be read.
    """

    shape: tuple[int, int, int]
    count: int

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return all that the pixels depend on except `shape`, as plain JSON."""

    @abc.abstractmethod
    def blocks(self, first: int, executor: Executor) -> Iterator[Block]:
        """Read all images from the one at `first` on, in order.

        A source may read several blocks at once by functions given to `executor`.
        """

    @abc.abstractmethod
    def finish(self, whole: Block, digests: Path | None = None) -> Images:
        """Return the `Images` of all blocks, with labels if they are asked for.

        Args:
            whole: All blocks as one.
            digests: As in `Images`.

        Raises:
            InputError: When images could not be read or have no class.
        """

    def read(self) -> Images:
        """Read all images into memory.

        Raises:
            InputError: When they are beyond it, or as `finish` does.
        """
        needed, memory = self.count * math.prod(self.shape), total_memory()
        if memory is not None and needed > memory:
            raise InputError(
                f"cache: the images need {needed / 1e9:,.1f} GB, and this machine has "
                f"{memory / 1e9:,.1f} GB of memory; use disk, or make img_size smaller"
            )
        pixels = np.empty((self.count, *self.shape), "uint8")
        ids, classes, skipped = [], [], []
        progress = Progress("data", self.count, "images")
        with (
            contextlib.closing(progress),
            ThreadPoolExecutor() as threads,  # Pillow releases Python's lock
        ):
            for block in self.blocks(0, threads):
                pixels[len(ids) :][: len(block.ids)] = block.pixels
                ids += block.ids
                classes += block.classes or []
                skipped += block.skipped
                progress.update(block.stop)
        pixels = pixels[: len(ids)]
        return self.finish(Block(pixels, ids, classes or None, skipped, self.count))


def block_ranges(first: int, count: int, shape: Sequence[int]) -> Iterator[range]:
    """Cut the indices of images of a shape, from `first` on, into blocks."""
    size = max(1, min(BLOCK, BLOCK_BYTES // math.prod(shape)))
    for start in range(first, count, size):
        yield range(start, min(start + size, count))


def in_order(
    executor: Executor, tasks: Iterable[Callable[[], Block]]
) -> Iterator[Block]:
    """Run tasks in an executor, and yield their blocks in order."""
    waiting: collections.deque = collections.deque()
    for task in tasks:
        waiting.append(executor.submit(task))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
