"""Sliced Wasserstein distance between the details of two sets of images (SWD).

Karras et al. 2018 (https://arxiv.org/abs/1710.10196), section 5: small patches are cut
from each level of an image's Laplacian pyramid, and the patches of two sets are
compared along random directions. The finest level shows sharpness and noise, the
coarsest large shapes and colour. No network is needed.

One point departs from the paper, which scales the patches of each set by that set's own
mean and standard deviation. Here both sets are scaled by those of the real images;
otherwise a colour cast, low contrast or blur would not count.
"""

import numpy as np

from ddpm_keras.data.pixels import to_float
from ddpm_keras.errors import require

PATCH_SIZE = 7
PATCHES_PER_IMAGE = 128
DIRECTIONS = 128  # the paper's code uses four times as many, to little effect
SMALLEST_LEVEL = 16  # pixels: a level of 2 * 16 or more is halved once more
IMAGE_BLOCK = 256  # images at a time

BINOMIAL = np.array([1, 4, 6, 4, 1], "float32") / 16.0


def sliced_wasserstein(real_images, sample_images, seed=0):
    """Compute the distance at each level of the pyramid, times 1,000 as in the paper.

    Both sets are cut at the same places and projected on the same directions, so equal
    sets give exactly 0. For two sets from one distribution it is above 0, the more so
    the fewer images there are: compare values of equal numbers of images only.

    Args:
        real_images: uint8 array of shape `(num_images, height, width, channels)`, of
            any size and number of channels.
        sample_images: uint8 array of the same shape.
        seed: Seed of places and directions.

    Returns:
        A dict of floats: one for each level, such as `"32x32"`, fine to coarse, and
        their `"mean"`.

    Raises:
        ValueError: When the shapes differ, or there is no image.

    Reference:
        - [Karras et al., 2018](https://arxiv.org/abs/1710.10196), section 5
    """
    require(
        real_images.shape == sample_images.shape and real_images.size > 0,
        "Two sets of images of one shape are needed.",
        real_images=real_images.shape,
        sample_images=sample_images.shape,
    )
    distances = {}
    for level, (height, width) in enumerate(level_sizes(*real_images.shape[1:3])):
        real, samples = (
            _patches(images, level, np.random.default_rng((seed, level)))
            for images in (real_images, sample_images)
        )
        _normalise(real, samples)
        rng = np.random.default_rng((seed, level, 1))
        distances[f"{height}x{width}"] = 1000.0 * _slices(real, samples, rng)
    distances["mean"] = float(np.mean(list(distances.values())))
    return distances


def level_sizes(height, width):
    """Return `(height, width)` of each level, from the full size on."""
    sizes = [(height, width)]
    while min(sizes[-1]) >= 2 * SMALLEST_LEVEL:
        sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    return sizes


def laplacian_level(images, level):
    """Compute one level of the Laplacian pyramid (Burt and Adelson 1983).

    Each level holds what halving the image loses; the last one holds what remains.

    Args:
        images: float32 array of shape `(num_images, height, width, channels)`.
        level: 0 for the finest.

    Returns:
        A float32 array of the level's size.
    """
    sizes = level_sizes(*images.shape[1:3])
    for _ in range(level):
        images = _halve(images)
    if level == len(sizes) - 1:
        return images
    return images - _double(_halve(images), *sizes[level])


def _patches(images, level, rng):
    """Cut patches, `(num_images, patches, rows, columns, channels)`, at random."""
    num_images = len(images)
    height, width = level_sizes(*images.shape[1:3])[level]
    rows, columns = min(PATCH_SIZE, height), min(PATCH_SIZE, width)
    places = (num_images, PATCHES_PER_IMAGE)
    top = rng.integers(0, height - rows + 1, places)[..., None, None]
    left = rng.integers(0, width - columns + 1, places)[..., None, None]
    rows = top + np.arange(rows)[:, None]
    columns = left + np.arange(columns)
    patches = []
    for first in range(0, num_images, IMAGE_BLOCK):
        some = slice(first, first + IMAGE_BLOCK)
        pixels = laplacian_level(to_float(images[some]), level)
        numbers = np.arange(len(pixels))[:, None, None, None]
        patches.append(pixels[numbers, rows[some], columns[some]])
    return np.concatenate(patches)


def _normalise(real, samples):
    """Scale both in place, so that the real patches have mean 0 and variance 1."""
    axes = (0, 1, 2, 3)
    mean = real.mean(axes, dtype="float64").astype("float32")
    spread = real.std(axes, dtype="float64").astype("float32")
    spread = np.maximum(spread, 1e-6)  # flat images have none
    for patches in (real, samples):
        patches -= mean
        patches /= spread


def _slices(real, samples, rng):
    """Return the mean distance of two sets of patches along random directions."""
    real, samples = (p.reshape(p.shape[0] * p.shape[1], -1) for p in (real, samples))
    directions = rng.standard_normal((real.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    distances = []
    for some in np.split(np.float32(directions.T), DIRECTIONS // 16):  # saves memory
        # In one dimension the best transport keeps the order.
        difference = np.sort(some @ real.T) - np.sort(some @ samples.T)
        distances.append(np.abs(difference).mean(dtype="float64"))
    return float(np.mean(distances))


def _halve(images):
    """Blur, then keep every other row and column, the first included."""
    return _blur(images)[:, ::2, ::2]


def _double(images, height, width):
    """Double the size, to `height` by `width`: insert zeros between pixels, blur."""
    spread = np.zeros((len(images), height, width, images.shape[3]), "float32")
    spread[:, ::2, ::2] = 4.0 * images
    return _blur(spread)


def _blur(images):
    """Apply a binomial filter along rows and columns, with reflected edges."""
    for axis in (1, 2):
        size = images.shape[axis]
        pad = [(0, 0)] * 4
        pad[axis] = (2, 2)
        padded = np.pad(images, pad, mode="reflect")
        images = sum(
            weight * np.take(padded, range(k, k + size), axis)
            for k, weight in enumerate(BINOMIAL)
        )
    return images
