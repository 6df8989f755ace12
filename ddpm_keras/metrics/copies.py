"""Memorisation: are samples copies of training images?

Being near a training image proves nothing where training images are as near to each
other. So a sample's distance to its nearest training image is divided by the distance
from that image to the nearest other one. The ratio of a copy is near 0.
"""

import dataclasses

import numpy as np

from ddpm_keras.errors import require
from ddpm_keras.metrics.distances import blocks, squared_distances

# A ratio below this counts as a copy. The threshold is a convention: Yoon et al. 2023
# use it with the sample's second nearest training image as the divisor.
COPY_RATIO = 1 / 3


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


def memorisation(training, samples, mirrored=None, seed=0):
    """Find each sample's nearest training image, and whether it is too near.

    Args:
        training: Features or pixels of the training images, shape `(num_training,
            dims)`; bytes are compared exactly.
        samples: Those of the samples, shape `(num_samples, dims)`.
        mirrored: Those of the mirrored training images in the same order, where
            training mirrors images at random: a mirrored copy is a copy.
        seed: Seed of the choice of training images that stand in for new ones: as many
            as there are samples, or all.

    Returns:
        A `Memorisation`. Equal training images count as one: what matters is the
        nearest that differs.

    Raises:
        ArgumentError: When there are fewer than 3 training images.

    Reference:
        - [Alaa et al., 2022](https://arxiv.org/abs/2102.08921), whose "authenticity"
          is 1 - `closer`
        - Yoon et al. 2023, "Diffusion Probabilistic Models Generalize when They Fail to
          Memorize"
    """
    number = len(training)
    require(number >= 3, "3 or more training images are needed.", training=number)
    points = training if mirrored is None else np.concatenate([training, mirrored])
    places, distances, ratios = _ratios(samples, points, number)
    left_out = np.random.default_rng(seed).permutation(number)[: len(samples)]
    _, _, expected = _ratios(training[left_out], points, number, [left_out])
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


def _ratios(queries, points, number, left_out=()):
    """Return the nearest point of each query, the distance to it, and the ratio."""
    places, distances = _nearest(queries, points, number, left_out)
    left_out = [places % number, *left_out]
    _, spacing = _nearest(points[places], points, number, left_out, different=True)
    return places, distances, distances / spacing


def _nearest(queries, points, number, left_out=(), different=False):
    """Return the place and distance of each query's nearest point.

    Points p and p + number are an image and its mirror image. Each array of `left_out`
    has one image per query to pass over; with `different`, so are equal points.
    """
    places = np.zeros(len(queries), int)
    squares = np.full(len(queries), np.inf)
    for i, some in blocks(queries):
        rows = slice(i, i + len(some))
        for j, some_points in blocks(points):
            found = squared_distances(some, some_points)
            images = (j + np.arange(len(some_points))) % number
            for omitted in left_out:
                found[omitted[rows, None] == images] = np.inf
            if different:
                found[found == 0.0] = np.inf
            best = found.argmin(1)
            least = found[np.arange(len(some)), best]
            is_nearer = least < squares[rows]
            places[rows][is_nearer] = j + best[is_nearer]
            squares[rows][is_nearer] = least[is_nearer]
    return places, np.sqrt(squares)
