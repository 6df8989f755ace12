"""Fréchet distance between the Gaussians of two sets of features (FID).

Heusel et al. 2017 (https://arxiv.org/abs/1706.08500), equation 6:

    d^2 = |mu_1 - mu_2|^2 + tr(S_1) + tr(S_2) - 2 tr((S_1 S_2)^(1/2))
"""

import numpy as np

from ddpm_keras.errors import require


def frechet_distance(features_1, features_2):
    """Compute the squared Fréchet distance d^2 of two sets, which is what "FID" means.

    It is biased: for two sets from one distribution it is above 0, the more so the
    fewer there are (Chong and Forsyth 2020, https://arxiv.org/abs/1911.07023). Quote
    the distance of two disjoint halves of the real features beside it.

    No matrix root is taken. With S = A^T A for the scaled and centred features A, the
    last trace is the sum of the singular values of A_1 A_2^T, which is exact even when
    there are fewer images than features and S is singular.

    Args:
        features_1: Array of shape `(num_images_1, dims)`.
        features_2: Array of shape `(num_images_2, dims)`.

    Returns:
        A float, 0 or more up to rounding.

    Raises:
        ValueError: When a set has fewer than 2 images, or the dims differ.

    Reference:
        - [Heusel et al., 2017](https://arxiv.org/abs/1706.08500)
    """
    sets = [np.asarray(f, "float64") for f in (features_1, features_2)]
    shape_1, shape_2 = (f.shape for f in sets)
    require(
        len(shape_1) == len(shape_2) == 2
        and min(shape_1[0], shape_2[0]) >= 2
        and shape_1[1] == shape_2[1],
        "Two sets of 2 or more vectors of one length are needed.",
        features_1=shape_1,
        features_2=shape_2,
    )
    mean_1, mean_2 = (f.mean(0) for f in sets)
    root_1, root_2 = (_covariance_root(f) for f in sets)
    cross = np.linalg.svd(root_1 @ root_2.T, compute_uv=False).sum()
    distance = np.square(mean_1 - mean_2).sum() + np.square(root_1).sum()
    return float(distance + np.square(root_2).sum() - 2.0 * cross)


def _covariance_root(features):
    """Return a matrix R, no larger than needed, with R^T R the covariance."""
    centred = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    if len(features) <= features.shape[1]:
        return centred
    return np.linalg.qr(centred, mode="r")
