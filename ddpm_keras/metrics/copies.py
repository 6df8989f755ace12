"""Memorisation: are samples copies of training images?

Being near a training image proves nothing where training images are as near to each
other. So a sample's distance to its nearest training image is divided by the distance
from that image to the nearest other one. The ratio of a copy is near 0.

Between images, the distance is the smallest over shifts of up to two pixels, for a
shifted copy is a copy.
"""

import contextlib
import dataclasses

import numpy as np

from ddpm_keras.errors import require
from ddpm_keras.metrics.distances import blocks, squared_distances
from ddpm_keras.progress import Progress

# A ratio below this counts as a copy: so are photographs that are zoomed by 5%, of 10%
# more brightness or coded as JPEG of quality 30, and of new ones fewer than one in a
# hundred (docs/measures.md).
COPY_RATIO = 1 / 2
MOST_SHIFT = 2  # pixels
CANDIDATES = 32  # nearest images by blocks of pixels, among which shifts are tried
COARSE = 4  # pixels a side of these blocks


@dataclasses.dataclass(frozen=True)
class Memorisation:
    """The nearest training image of each sample, and how near it is.

    Attributes:
        nearest: Index of the image, shape `(num_samples,)`.
        is_mirrored: Whether its mirror image is the nearest.
        distances: Distance to it.
        ratios: That distance over the image's own distance to the nearest other one.
        closer: Share of samples with a ratio below 1.
        copies: Share of samples with a ratio below `COPY_RATIO`.
        closer_expected: `closer` of new images from the training distribution,
            estimated by leaving training images out.
        copies_expected: `copies` of such images.
    """

    nearest: np.ndarray
    is_mirrored: np.ndarray
    distances: np.ndarray
    ratios: np.ndarray
    closer: float
    copies: float
    closer_expected: float
    copies_expected: float


def memorisation(training, samples, mirrored=None, seed=0, verbose=0):
    """Find each sample's nearest training image, and whether it is too near.

    Args:
        training: The training images, shape `(num_training, height, width, channels)`,
            of which bytes are compared exactly; or features of them, shape
            `(num_training, dims)`.
        samples: The samples, or features of them.
        mirrored: Those of the mirrored training images in the same order, where
            training mirrors images at random: a mirrored copy is a copy.
        seed: Seed of the choice of training images that stand in for new ones: as many
            as there are samples, or all.
        verbose: 1 shows progress.

    Returns:
        A `Memorisation`. Equal training images count as one: what matters is the
        nearest that differs.

    Raises:
        ArgumentError: When there are fewer than 3 training images.

    Reference:
        - [Alaa et al., 2022](https://arxiv.org/abs/2102.08921), whose "authenticity"
          is 1 - `closer`
        - Yoon et al. 2023, "Diffusion Probabilistic Models Generalize when They Fail to
          Memorize", with a third of the distance to the second nearest
    """
    number = len(training)
    require(number >= 3, "3 or more training images are needed.", training=number)
    items = training if mirrored is None else np.concatenate([training, mirrored])
    left_out = np.random.default_rng(seed).permutation(number)[: len(samples)]
    # For the image nearest to each query, and then for the nearest to that.
    total = 2 * (len(samples) + len(left_out))
    with contextlib.closing(
        Progress("copies", total, "searches", show=bool(verbose))
    ) as progress:
        points = _Points(items, _middles(items), _coarse(items), number, progress)
        places, distances, ratios = _ratios(samples, points)
        _, _, expected = _ratios(training[left_out], points, [left_out])
    return Memorisation(
        nearest=places % number,
        is_mirrored=places >= number,
        distances=distances,
        ratios=ratios,
        closer=float(np.mean(ratios < 1.0)),
        copies=float(np.mean(ratios < COPY_RATIO)),
        closer_expected=float(np.mean(expected < 1.0)),
        copies_expected=float(np.mean(expected < COPY_RATIO)),
    )


@dataclasses.dataclass(frozen=True)
class _Points:
    """Training images or vectors, and then their mirror images in the same order.

    Attributes:
        items: All of them.
        middles: Vectors, and of images the middle that every shift leaves, as vectors.
        coarse: Vectors, and of images small ones, as vectors.
        number: Number of training images, without mirror images.
        progress: Advances by each search.
    """

    items: np.ndarray
    middles: np.ndarray
    coarse: np.ndarray
    number: int
    progress: Progress


def _ratios(queries, points, left_out=()):
    """Return the nearest point of each query, the distance to it, and the ratio."""
    places, distances = _nearest(queries, points, left_out)
    left_out = [places % points.number, *left_out]
    _, spacing = _nearest(points.items[places], points, left_out, different=True)
    return places, distances, distances / spacing


def _nearest(queries, points, left_out=(), different=False):
    """Return the place and distance of each query's nearest point.

    Each array of `left_out` has one image per query to pass over; with `different`, so
    are equal points.
    """
    candidates, allowed = _candidates(_coarse(queries), points, left_out, different)
    places = np.zeros(len(queries), int)
    squares = np.zeros(len(queries))
    for i, query in enumerate(queries):
        found = squared_distances(_shifts(query), points.middles[candidates[i]]).min(0)
        found[~allowed[i]] = np.inf
        if different:
            found[found == 0.0] = np.inf
        places[i], squares[i] = candidates[i, found.argmin()], found.min()
        points.progress.advance()
    return places, np.sqrt(squares)


def _candidates(queries, points, left_out, different):
    """Find the `CANDIDATES` nearest points of each query.

    Returns:
        Their places, shape `(num_queries, candidates)`, and which of them are not
        passed over.
    """
    places = np.zeros((len(queries), 0), int)
    squares = np.zeros((len(queries), 0))
    for j, some_points in blocks(points.coarse):
        here = j + np.arange(len(some_points))
        found = np.zeros((len(queries), len(some_points)))
        for i, some in blocks(queries):
            found[i : i + len(some)] = squared_distances(some, some_points)
        for omitted in left_out:
            found[omitted[:, None] == here % points.number] = np.inf
        if different:
            found[found == 0.0] = np.inf
        squares = np.concatenate([squares, found], axis=1)
        places = np.concatenate([places, np.broadcast_to(here, found.shape)], axis=1)
        # Stable, so that of equal points the first one is nearest.
        nearest = squares.argsort(1, kind="stable")[:, :CANDIDATES]
        squares, places = (np.take_along_axis(a, nearest, 1) for a in (squares, places))
    return places, np.isfinite(squares)


def _margin(shape):
    """Return by how many pixels images of a shape are shifted, at most."""
    return min(MOST_SHIFT, (min(shape[:2]) - 1) // 2)


def _middles(items):
    if items.ndim == 2:
        return items
    margin = _margin(items.shape[1:])
    height, width = items.shape[1:3]
    middles = items[:, margin : height - margin, margin : width - margin]
    return np.moveaxis(middles, 3, 1).reshape(len(items), -1)


def _coarse(items):
    # Shifts change sums over blocks less than pixels.
    if items.ndim == 2:
        return items
    for axis in (1, 2):
        starts = np.arange(0, items.shape[axis], COARSE)
        items = np.add.reduceat(items, starts, axis, dtype="float64")
    return items.reshape(len(items), -1)


def _shifts(item):
    """Return a vector as a row, and of an image the parts that a shift may show."""
    if item.ndim == 1:
        return item[None]
    margin = _margin(item.shape)
    sides = [side - 2 * margin for side in item.shape[:2]]
    parts = np.lib.stride_tricks.sliding_window_view(item, sides, axis=(0, 1))
    return parts.reshape((2 * margin + 1) ** 2, -1)
