"""Kernel distance between two sets of features (KID).

Bińkowski et al. 2018 (https://arxiv.org/abs/1801.01401): the squared maximum mean
discrepancy with the polynomial kernel k(x, y) = (x . y / dims + 1)^3. The estimate is
unbiased, so values from 256 and from 50,000 images can be compared; fewer images only
make the error larger.
"""

import dataclasses

import numpy as np

from ddpm_keras.errors import require
from ddpm_keras.metrics.distances import blocks


@dataclasses.dataclass(frozen=True)
class KernelDistance:
    """The mean over subsets, and its standard error."""

    mean: float
    standard_error: float
    subset_size: int


def kernel_distance(features_1, features_2, subset_size=None, num_subsets=100, seed=0):
    """Compute KID: the squared discrepancy, averaged over random subsets.

    The standard error is that of the whole sets' estimate, by the jackknife that
    deletes all but a subset. As the subsets overlap, their spread over
    sqrt(num_subsets) would go to 0 with more of them, whatever the images.

    Args:
        features_1: Array of shape `(num_images_1, dims)`.
        features_2: Array of shape `(num_images_2, dims)`.
        subset_size: Images of each set in a subset, at least 2 and below the size of
            the smaller set. Default: half of that size, at most 1,000.
        num_subsets: Number of subsets.
        seed: Seed of the choice of subsets.

    Returns:
        A `KernelDistance`. The mean may be negative: for two sets from one distribution
        its expectation is 0.

    Raises:
        ValueError: When there are too few images for the subsets, or the dims differ.

    Reference:
        - [Bińkowski et al., 2018](https://arxiv.org/abs/1801.01401), section 4
        - Shao and Wu 1989, "A general theory for jackknife variance estimation"
    """
    features_1, features_2 = (
        np.asarray(f, "float64") for f in (features_1, features_2)
    )
    smaller = min(len(features_1), len(features_2))
    if subset_size is None:
        subset_size = min(1000, smaller // 2)
    require(
        2 <= subset_size < smaller,
        "`subset_size` must be at least 2 and below the number of images of the "
        f"smaller set, {smaller}.",
        subset_size=subset_size,
    )
    rng = np.random.default_rng(seed)
    values = squared_discrepancies(
        features_1,
        features_2,
        _choose(len(features_1), subset_size, num_subsets, rng),
        _choose(len(features_2), subset_size, num_subsets, rng),
    )
    variance = np.var(values) * subset_size / (smaller - subset_size)
    return KernelDistance(
        float(np.mean(values)), float(np.sqrt(variance)), int(subset_size)
    )


def squared_discrepancies(x, y, in_x, in_y):
    """Compute the unbiased estimate of MMD^2 (equation 4) for each subset.

    Args:
        x: float64 array of shape `(num_1, dims)`.
        y: float64 array of shape `(num_2, dims)`.
        in_x: Which rows of `x` are in which subset: array of zeros and ones, shape
            `(num_1, num_subsets)`, with two or more ones in each column.
        in_y: The same for `y`.

    Returns:
        A float64 array of shape `(num_subsets,)`.

    Raises:
        ValueError: When the dims differ.
    """
    require(
        x.shape[1] == y.shape[1],
        "Both sets need features of one length.",
        x=x.shape,
        y=y.shape,
    )
    # Each kernel value is computed once, however many subsets it is in.
    cross = _sums(x, y, in_x, in_y) / (in_x.sum(0) * in_y.sum(0))
    within = 0.0
    for a, in_a in ((x, in_x), (y, in_y)):
        diagonal = _cube(np.square(a).sum(1) / a.shape[1] + 1.0) @ in_a
        size = in_a.sum(0)
        within = within + (_sums(a, a, in_a, in_a) - diagonal) / (size * (size - 1))
    return within - 2.0 * cross


def _sums(x, y, in_x, in_y):
    """Sum the kernel over the pairs of each subset."""
    sums = 0.0
    for first, some in blocks(x):
        kernel = _cube(some @ y.T / x.shape[1] + 1.0)
        sums = sums + (in_x[first : first + len(some)] * (kernel @ in_y)).sum(0)
    return sums


def _choose(number, size, num_subsets, rng):
    chosen = np.zeros((number, num_subsets))
    for k in range(num_subsets):
        chosen[rng.choice(number, size, replace=False), k] = 1.0
    return chosen


def _cube(values):
    return values * values * values  # many times faster than NumPy's power
