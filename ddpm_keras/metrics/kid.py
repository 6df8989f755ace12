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
    """The estimate from two whole sets, and its standard error."""

    mean: float
    standard_error: float


@dataclasses.dataclass(frozen=True)
class _Pairs:
    """The kernel of all pairs of an image of one set and one of another (or the same).

    Attributes:
        of_first: Mean over the pairs of each image of the first set.
        of_second: The same for the second set.
        mean: Mean over all pairs.
        interaction: Variance of what the two images of a pair do not explain one by
            one: of the kernel less both means, plus the mean of all.
        number: Number of pairs.
    """

    of_first: np.ndarray
    of_second: np.ndarray
    mean: float
    interaction: float
    number: int


def kernel_distance(features_1, features_2):
    """Compute KID from two whole sets, of any two sizes.

    The standard error says how much the estimate would vary with new sets of these
    sizes. It is that of the jackknife, which leaves out one image of either set at a
    time, less what the jackknife counts twice: the variance that belongs to pairs. That
    is most of it where both sets are from one distribution.

    Args:
        features_1: Array of shape `(num_images_1, dims)`.
        features_2: Array of shape `(num_images_2, dims)`.

    Returns:
        A `KernelDistance`. The mean may be negative: for two sets from one distribution
        its expectation is 0.

    Raises:
        ArgumentError: When a set has fewer than 4 images, or the dims differ.

    Reference:
        - [Bińkowski et al., 2018](https://arxiv.org/abs/1801.01401), equation 4
        - Efron and Stein 1981, "The jackknife estimate of variance"
    """
    x, y = (np.asarray(f, "float64") for f in (features_1, features_2))
    require(
        len(x) >= 4 and len(y) >= 4 and x.shape[1:] == y.shape[1:],
        "Two sets of 4 or more vectors of one length are needed.",
        features_1=x.shape,
        features_2=y.shape,
    )
    within_x, within_y, between = _pairs(x), _pairs(y), _pairs(x, y)
    jackknife = _leave_one_out(within_x, between.of_first)
    jackknife += _leave_one_out(within_y, between.of_second)
    of_pairs = 2.0 * within_x.interaction / within_x.number
    of_pairs += 2.0 * within_y.interaction / within_y.number
    of_pairs += 4.0 * between.interaction / between.number
    # The rest belongs to single images; its estimate can fall below 0.
    variance = max(jackknife - of_pairs, of_pairs)
    return KernelDistance(
        float(within_x.mean + within_y.mean - 2.0 * between.mean),
        float(np.sqrt(variance)),
    )


def _leave_one_out(within, between):
    """Return the jackknife's variance of the distance, from leaving out one image each.

    Args:
        within: `_Pairs` of the set that is left out from.
        between: Mean kernel of each of its images with those of the other set.
    """
    size = len(between)
    # What the distance loses without an image, up to a constant.
    change = 2.0 * (within.of_first / (size - 2) - between / (size - 1))
    return (size - 1) * np.var(change)


def _pairs(x, y=None):
    """Compute `_Pairs` of two sets, or of a set with itself but for pairs of equals."""
    same = y is None
    y = x if same else y
    of_first, of_second, squares = [], np.zeros(len(y)), 0.0
    for first, some in blocks(x):
        kernel = _cube(some @ y.T / x.shape[1] + 1.0)
        if same:
            rows = np.arange(len(some))
            kernel[rows, first + rows] = 0.0
        of_first.append(kernel.sum(1))
        of_second += kernel.sum(0)
        squares += np.square(kernel).sum()
    number = len(x) * (len(y) - same)
    of_first = np.concatenate(of_first) / (len(y) - same)
    of_second /= len(x) - same
    mean = of_first.mean()
    explained = np.square(of_first).mean() + np.square(of_second).mean() - mean**2
    return _Pairs(of_first, of_second, mean, squares / number - explained, number)


def _cube(values):
    return values * values * values  # many times faster than NumPy's power
