"""A data set in memory, and its split into training and held-out images."""

import dataclasses
import hashlib

import numpy as np

BLOCK = 4096  # images hashed at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """The images of a data set, in a fixed order, with their labels.

    Attributes:
        pixels: uint8 array or memory map, `(num_images, height, width, channels)`.
        labels: Class of each image, an int array of shape `(num_images,)`, or None.
        names: Class names, by label. No source here provides labels and names yet.
        skipped: "name (reason)" of each image that was left out.
    """

    pixels: np.ndarray
    labels: np.ndarray | None = None
    names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __len__(self):
        return len(self.pixels)

    def take(self, indices):
        """Select images by an int array, a slice or a bool array."""
        labels = None if self.labels is None else self.labels[indices]
        return dataclasses.replace(self, pixels=self.pixels[indices], labels=labels)

    def digest(self, indices):
        """Return the SHA-256, in hex, of the pixels of the images at an int array."""
        digest = hashlib.sha256()
        for first in range(0, len(indices), BLOCK):
            some = self.pixels[indices[first : first + BLOCK]]
            digest.update(np.ascontiguousarray(some))
        return digest.hexdigest()


def count_held_out(num_images, validation_fraction):
    """Return the number of images that `split_indices` holds out."""
    # Round first: 100 * 0.07 is 7.000000000000001.
    return int(np.ceil(round(num_images * validation_fraction, 6)))


def split_indices(num_images, validation_fraction, seed):
    """Split images at random into training and held-out ones.

    Args:
        num_images: Number of images.
        validation_fraction: Fraction to hold out, in [0, 1); the number is rounded up.
        seed: Seed of the choice.

    Returns:
        Two ascending int arrays: the images to train on, and those held out.
    """
    held_out = count_held_out(num_images, validation_fraction)
    order = np.random.default_rng(seed).permutation(num_images)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
