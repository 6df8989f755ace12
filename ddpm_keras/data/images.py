"""The images of a data set, and their split into training and held-out ones."""

import abc
import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ddpm_keras.files import written_whole
from ddpm_keras.labels import NO_LABEL

BLOCK = 4096  # images hashed at a time


class LazyPixels(abc.ABC):
    """Images of which those that are indexed are read; `np.asarray` reads them all.

    Attributes:
        shape: `(num_images, height, width, channels)`.
        dtype: uint8.
    """

    @abc.abstractmethod
    def __getitem__(self, rows):
        """Return some images as an array of their own."""

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ValueError("pixels that are read are always a copy")
        return np.asarray(self[:], dtype)


class Rows(LazyPixels):
    """Some images, in any order, of which only those that are indexed are copied.

    Args:
        array: All images, an array or `LazyPixels`.
        places: Int array, which of them.
    """

    def __init__(self, array, places):
        self.array, self.places = array, places
        self.shape, self.dtype = (len(places), *array.shape[1:]), array.dtype

    def __getitem__(self, rows):
        return self.array[self.places[rows]]


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """The images of a data set, in a fixed order, with their labels.

    Attributes:
        pixels: uint8 array of shape `(num_images, height, width, channels)`, or
            `LazyPixels`: those of a cache on disk, or of a split.
        labels: Class of each image, an int32 array of shape `(num_images,)`, or None.
        names: Class names, by label; () without labels.
        ids: What identifies each image wherever it stands in the data set, such as its
            file name: an object array of texts. Default: its index.
        skipped: "name (reason)" of each image that was left out.
        digests: Folder that keeps the digests of pixels which never change, or None.
    """

    pixels: np.ndarray | LazyPixels
    labels: np.ndarray | None = None
    names: tuple[str, ...] = ()
    ids: np.ndarray | Sequence[str] | None = None
    skipped: tuple[str, ...] = ()
    digests: Path | None = None

    def __post_init__(self):
        ids = map(str, range(len(self.pixels))) if self.ids is None else self.ids
        object.__setattr__(self, "ids", np.array(list(ids), object))
        if self.labels is not None:
            object.__setattr__(self, "labels", np.asarray(self.labels, "int32"))

    def __len__(self):
        return len(self.pixels)

    def take(self, indices):
        """Select images by an int array, a slice or a bool array; copy no pixels."""
        array, places = self._places(np.arange(len(self))[indices])
        return dataclasses.replace(
            self,
            pixels=Rows(array, places),
            labels=None if self.labels is None else self.labels[indices],
            ids=self.ids[indices],
        )

    def with_names(self, names):
        """Number the classes as in another list; `NO_LABEL` for names not in it."""
        number = {name: label for label, name in enumerate(names)}
        table = np.array([number.get(name, NO_LABEL) for name in self.names], "int32")
        return dataclasses.replace(self, labels=table[self.labels], names=tuple(names))

    def digest(self, indices):
        """Return the SHA-256, in hex, of the pixels of the images at an int array.

        Labels, if there are any, follow the pixels as little-endian int32.
        """
        if self.digests is None:
            return self._read_digest(indices)
        key = hashlib.sha256(self._places(indices)[1].astype("<i8"))
        if self.labels is not None:
            key.update(self.labels[indices].astype("<i4"))
        path = self.digests / f"digest-{key.hexdigest()}"
        with contextlib.suppress(OSError, UnicodeDecodeError):
            known = path.read_text()
            if re.fullmatch("[0-9a-f]{64}", known):
                return known
        digest = self._read_digest(indices)
        with contextlib.suppress(OSError), written_whole(path) as file:
            file.write_text(digest)
        return digest

    def _places(self, indices):
        """Return the array that holds the pixels, and the places of images in it."""
        if isinstance(self.pixels, Rows):
            return self.pixels.array, self.pixels.places[indices]
        return self.pixels, np.asarray(indices)

    def _read_digest(self, indices):
        digest = hashlib.sha256()
        for first in range(0, len(indices), BLOCK):
            some = self.pixels[indices[first : first + BLOCK]]
            digest.update(np.ascontiguousarray(some))
        if self.labels is not None:
            digest.update(self.labels[indices].astype("<i4"))
        return digest.hexdigest()


def split_indices(ids, validation_fraction):
    """Split images into training and held-out ones by a hash of what identifies them.

    An image is held out if its SHA-256, as a fraction of the largest, is below
    `validation_fraction`. So images that join or leave the data set move no other, and
    about that fraction is held out, but at least one image (unless the fraction is 0),
    and not all of them.

    Args:
        ids: Texts that identify the images, such as `Images.ids`.
        validation_fraction: Fraction to hold out, in [0, 1).

    Returns:
        Two ascending int arrays: the images to train on, and those held out.
    """
    if not validation_fraction or not len(ids):
        return np.arange(len(ids)), np.arange(0)
    hashes = np.array([_hash(text) for text in ids])
    held_out = hashes < validation_fraction
    held_out[hashes.argmin()] = True
    # Last, so that a single image is trained on.
    if held_out.all():
        held_out[hashes.argmax()] = False
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _hash(text):
    """Map a text to a number in [0, 1], evenly."""
    # File names that are no UTF-8 hold surrogates.
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest) / 2**256
