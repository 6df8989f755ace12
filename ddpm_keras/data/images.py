"""`Images`: a data set in memory, and its split into training and held-out images."""

import dataclasses
import hashlib

import numpy as np

BLOCK = 4096  # images hashed at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """The images of a data set, in a fixed order, and what is known of each.

    Attributes:
        pixels: uint8, `(num_images, height, width, channels)`; an array or memory map.
        labels: The class of each image, an int array of shape `(num_images,)`, or None.
        names: The names of the classes, by label.
        skipped: "name (reason)" of each image that was left out.
    """

    pixels: np.ndarray
    labels: np.ndarray | None = None
    names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __len__(self):
        return len(self.pixels)

    def take(self, indices):
        """Select some images, by an int array, a slice, or a bool array."""
        labels = None if self.labels is None else self.labels[indices]
        return dataclasses.replace(self, pixels=self.pixels[indices], labels=labels)

    def digest(self, indices):
        """Hash the pixels of some images, in the order of an int array: SHA-256."""
        digest = hashlib.sha256()
        for first in range(0, len(indices), BLOCK):
            some = self.pixels[indices[first : first + BLOCK]]
            digest.update(np.ascontiguousarray(some))
        return digest.hexdigest()


def count_held_out(num_images, validation_fraction):
    """Count the images that `split_indices` sets aside."""
    # Rounded first: 100 * 0.07 is 7.000000000000001.
    return int(np.ceil(round(num_images * validation_fraction, 6)))


def split_indices(num_images, validation_fraction, seed):
    """Choose images at random to be held out of training.

    Args:
        num_images: Number of images.
        validation_fraction: Share of the images to hold out, in [0, 1); at least one
            image unless it is 0.
        seed: Seed of the choice.

    Returns:
        Two ascending int arrays: the images to train on, and those held out.
    """
    held_out = count_held_out(num_images, validation_fraction)
    order = np.random.default_rng(seed).permutation(num_images)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
