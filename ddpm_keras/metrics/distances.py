"""Euclidean distances between many vectors, in blocks that fit in memory."""

import numpy as np

BLOCK = 1024  # rows at a time: 8 MB of distances, 100 MB of 64x64 colour images

# Vectors whose squared distance is below this share of |x|^2 + |y|^2 count as equal:
# it is rounding. Bytes are exact in float64: 12,288 of them differ by more, or not.
ROUNDING = 1e-12


def squared_distances(x, y):
    """Compute all squared distances between the rows of two arrays.

    Args:
        x: Array of shape `(num_1, dims)`, of any real type.
        y: Array of shape `(num_2, dims)`.

    Returns:
        A float64 array of shape `(num_1, num_2)`, exactly 0 for equal rows.
    """
    x, y = np.asarray(x, "float64"), np.asarray(y, "float64")
    norms = np.square(x).sum(1)[:, None] + np.square(y).sum(1)
    distances = norms - 2.0 * (x @ y.T)
    return np.where(distances <= ROUNDING * norms, 0.0, distances)


def blocks(array):
    """Yield `(first, rows)` over an array, `BLOCK` rows at a time."""
    for first in range(0, len(array), BLOCK):
        yield first, array[first : first + BLOCK]
