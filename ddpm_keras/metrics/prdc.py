"""Precision, recall, density and coverage: do samples and real images overlap?

Each image has a ball around its features that reaches to its k-th nearest neighbour in
the same set. The balls of a set stand for the region where it lies.
"""

import dataclasses

import numpy as np

from ddpm_keras.errors import require
from ddpm_keras.metrics.distances import blocks, squared_distances


@dataclasses.dataclass(frozen=True)
class Overlap:
    """How two sets overlap; all in [0, 1] except density, which may be above 1.

    Attributes:
        precision: Share of samples inside a ball of a real image.
        recall: Share of real images inside a ball of a sample.
        density: Mean number of real balls that a sample is in, over k.
        coverage: Share of real balls with a sample inside.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real_features, sample_features, k=5):
    """Compare where two sets of features lie.

    Two sets from one distribution and of one size have a density of about 1 and a
    coverage of about 1 - 2^-k.

    Args:
        real_features: Array of shape `(num_real, dims)`.
        sample_features: Array of shape `(num_samples, dims)`; best as many as there are
            real ones, as all four measures depend on the numbers.
        k: Which neighbour's distance is the radius.

    Returns:
        An `Overlap`.

    Raises:
        ValueError: When a set has no more than `k` images.

    Reference:
        - [Kynkäänniemi et al., 2019](https://arxiv.org/abs/1904.06991), precision and
          recall
        - [Naeem et al., 2020](https://arxiv.org/abs/2002.09797), density and coverage
    """
    num_real, num_samples = len(real_features), len(sample_features)
    require(
        min(num_real, num_samples) > k,
        f"Sets of more than k={k} images are needed.",
        real_features=num_real,
        sample_features=num_samples,
    )
    real_radii = _radii(real_features, k)
    sample_radii = _radii(sample_features, k)
    balls_around = np.zeros(num_samples)  # real balls that a sample is in
    is_recalled = np.zeros(num_real, bool)
    is_covered = np.zeros(num_real, bool)
    for i, some_real in blocks(real_features):
        real = slice(i, i + len(some_real))
        for j, some_samples in blocks(sample_features):
            samples = slice(j, j + len(some_samples))
            distances = squared_distances(some_real, some_samples)
            inside = distances <= real_radii[real, None]
            balls_around[samples] += inside.sum(0)
            is_covered[real] |= inside.any(1)
            is_recalled[real] |= (distances <= sample_radii[samples]).any(1)
    return Overlap(
        precision=float(np.mean(balls_around > 0)),
        recall=float(np.mean(is_recalled)),
        density=float(np.mean(balls_around) / k),
        coverage=float(np.mean(is_covered)),
    )


def _radii(features, k):
    """Return the squared distance of each row to its k-th nearest other row."""
    radii = []
    for _, some in blocks(features):
        distances = np.concatenate(
            [squared_distances(some, others) for _, others in blocks(features)], axis=1
        )
        # Place 0 is the row itself, so the k-th other one is at place k.
        radii.append(np.partition(distances, k, axis=1)[:, k])
    return np.concatenate(radii)
