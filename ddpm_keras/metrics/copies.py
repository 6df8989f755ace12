"""Memorisation: are samples copies of training images?

A sample near a training image proves nothing where training images lie as near to each
other. So a sample's distance to its nearest training image is divided by that image's
own distance to the nearest other one: the ratio of a copy is near 0.
"""

import dataclasses

import numpy as np

from ddpm_keras.metrics.distances import blocks, squared_distances

# A ratio below this counts as a copy. A convention: Yoon et al. 2023 draw the line
# there, with the second nearest training image in place of the nearest's nearest.
COPY_RATIO = 1 / 3


@dataclasses.dataclass(frozen=True)
class Memorisation:
    """The nearest training image of each sample, and how near it is.

    `nearest`: its index, shape `(num_samples,)`; `is_mirrored`: whether its mirror
    image is meant; `distances`: how far it is; `ratios`: that over its own distance to
    the nearest other training image.

    `closer`: share of the samples with a ratio below 1; `copies`: share with one below
    `COPY_RATIO`; `closer_expected`, `copies_expected`: the same shares for new images
    of the training distribution, measured by leaving training images out.
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
    """Find each sample's nearest training image and tell whether it is too near.

    Args:
        training: Features or pixels of the training images, shape `(num_training,
            dims)`; bytes are compared exactly.
        samples: Those of the samples, shape `(num_samples, dims)`.
        mirrored: Those of the mirrored training images in the same order, where
            training mirrors images at random: a mirrored copy is a copy.
        seed: Chooses the training images that stand in for new ones, as many as
            there are samples or else all.

    Returns:
        A `Memorisation`. Training images that are equal count as one: what matters is
        the nearest one that differs.

    Raises:
        ValueError: When there are fewer than 3 training images.

    Reference:
        - [Alaa et al., 2022](https://arxiv.org/abs/2102.08921), whose "authenticity"
          is 1 - `closer`
        - Yoon et al. 2023, "Diffusion Probabilistic Models Generalize when They Fail to
          Memorize"
    """
    number = len(training)
    if number < 3:
        raise ValueError(
            f"3 or more training images are needed. Received: {number} of them"
        )
    points = training if mirrored is None else np.concatenate([training, mirrored])

    places, distances = _nearest(samples, points, number)
    ratios = distances / _spacing(points, number, places)

    # The same for training images, each one as if training had not seen it.
    rng = np.random.default_rng(seed)
    left_out = rng.permutation(number)[: len(samples)]
    left_out_places, left_out_distances = _nearest(
        training[left_out], points, number, [left_out]
    )
    left_out_ratios = left_out_distances / _spacing(
        points, number, left_out_places, [left_out]
    )
    return Memorisation(
        nearest=places % number,
        is_mirrored=places >= number,
        distances=distances,
        ratios=ratios,
        closer=float(np.mean(ratios < 1.0)),
        copies=float(np.mean(ratios < COPY_RATIO)),
        closer_expected=float(np.mean(left_out_ratios < 1.0)),
        copies_expected=float(np.mean(left_out_ratios < COPY_RATIO)),
    )


def _spacing(points, number, places, left_out=()):
    """Distance of the points at `places` to the nearest other, different image."""
    _, spacing = _nearest(
        points[places], points, number, [places % number, *left_out], different=True
    )
    return spacing


def _nearest(queries, points, number, left_out=(), different=False):
    """Place and distance of each query's nearest point.

    Points p and p + number are an image and its mirror image. `left_out` holds arrays
    of one image per query that is passed over; with `different`, so are equal points.
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
