"""The drawn flowers of `flowers.py` as a source of images."""

import functools
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_keras.data.flowers import SHAPES, draw_labelled_flower
from ddpm_keras.data.images import Images
from ddpm_keras.data.source import Block, Source, block_ranges, in_order
from ddpm_keras.errors import InputError
from ddpm_keras.memory import total_memory

# To be raised when the drawings change, so that old ones are not taken from a cache.
VERSION = 2
ID_BYTES = 64  # of what identifies an image, at least


class PetalSource(Source):
    """The first `count` flowers of a seed; their classes are the shapes of petals."""

    def __init__(
        self, count: int, seed: int, shape: tuple[int, int, int], labelled: bool = False
    ) -> None:
        memory = total_memory()
        if memory is not None and count * ID_BYTES > memory:
            raise InputError(
                f"num_images: {count:,} flowers are beyond the memory of this machine, "
                f"{memory / 1e9:,.0f} GB; make it smaller"
            )
        self.count, self.seed, self.shape = count, seed, shape
        self.labelled = labelled

    def describe(self) -> dict[str, Any]:
        return {
            "source": "petals",
            "version": VERSION,
            "seed": self.seed,
            "count": self.count,
        }

    def blocks(self, first: int, executor: Executor) -> Iterator[Block]:
        ranges = block_ranges(first, self.count, self.shape)
        draw = functools.partial(_draw, self.seed, self.shape)
        return in_order(executor, (functools.partial(draw, some) for some in ranges))

    def finish(self, whole: Block, digests: Path | None = None) -> Images:
        # All shapes, also those that a few flowers do not show.
        labels, names = (whole.classes, tuple(SHAPES)) if self.labelled else (None, ())
        return Images(whole.pixels, labels, names, whole.ids, digests=digests)


def petal_ids(seed: int, indices: range) -> list[str]:
    """Return what identifies some flowers of a seed."""
    return [f"{seed}/{index}" for index in indices]


def _draw(seed: int, shape: tuple[int, int, int], indices: range) -> Block:
    *size, channels = shape
    drawn = [draw_labelled_flower(seed, index, size, channels) for index in indices]
    pixels, classes = zip(*drawn, strict=True)
    ids = petal_ids(seed, indices)
    return Block(np.stack(pixels), ids, list(classes), [], indices.stop)
