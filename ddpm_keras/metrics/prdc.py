"""Precision, recall, density and coverage: do samples and real images overlap?

Every image of a set has a ball around its features that reaches to its k-th nearest
neighbour in the same set; the balls stand for the region where that set lies.
"""

import dataclasses

import numpy as np

from ddpm_keras.metrics.distances import blocks, squared_distances


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Precision, recall and coverage are in [0, 1]; density may be above 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real_features, sample_features, k=5):
    """Compare where two sets of features lie.

    `precision`: share of the samples inside a ball of the real images; `recall`: share
    of the real images inside a ball of the samples; `density`: real balls that a sample
    is in, over k; `coverage`: share of the real balls with a sample inside. Two sets of
    one distribution and size give a coverage of about 1 - 2^-k and a density of 1.

    Args:
        real_features: Array of shape `(num_real, dims)`.
        sample_features: Array of shape `(num_samples, dims)`; as many as there are real
            ones, for all four depend on the numbers.
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
    if min(len(real_features), len(sample_features)) <= k:
        raise ValueError(
            f"Sets of more than k={k} images are needed. Received: "
            f"{len(real_features)} and {len(sample_features)}"
        )
    real_radii = _radii(real_features, k)
    sample_radii = _radii(sample_features, k)
    balls_around = np.zeros(len(sample_features))  # real balls that a sample is in
    is_recalled = np.zeros(len(real_features), bool)
    is_covered = np.zeros(len(real_features), bool)
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
    """Squared distance of each row to its k-th nearest other row."""
    radii = []
    for first, some in blocks(features):
        distances = np.concatenate(
            [squared_distances(some, others) for _, others in blocks(features)], axis=1
        )
        # A row is its own nearest, at 0: the k-th other one stands at place k.
        radii.append(np.partition(distances, k, axis=1)[:, k])
    return np.concatenate(radii)
