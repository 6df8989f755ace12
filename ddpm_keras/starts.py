"""Where a reverse process may start other than from fresh noise.

Between two seeds, between two images, or from an image diffused part of the way.
"""

import numpy as np


def slerp(first, second, weights):
    """Spherical interpolation between two noise images (Shoemake 1985).

    A straight line between two Gaussian samples passes through images of too little
    variance; the great circle keeps it.

    Args:
        first: Array of shape `(height, width, channels)`.
        second: Array of the same shape.
        weights: Array of shape `(n,)`, 0 for the first to 1 for the second.

    Returns:
        A float32 array of shape `(n, height, width, channels)`.
    """
    first, second = np.float64(first), np.float64(second)
    cosine = np.sum(first * second) / np.linalg.norm(first) / np.linalg.norm(second)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    weights = np.asarray(weights, "float64")[:, None, None, None]
    if np.sin(angle) < 1e-6:  # the same or opposite: no great circle to follow
        return np.float32((1.0 - weights) * first + weights * second)
    return np.float32(
        (np.sin((1.0 - weights) * angle) * first + np.sin(weights * angle) * second)
        / np.sin(angle)
    )


def diffuse(images, diffusion, t, noise):
    """Diffuse clean images to timestep `t`: a draw of q(x_t | x_0).

    Args:
        images: Array of shape `(n, height, width, channels)` in [-1, 1].
        diffusion: The `GaussianDiffusion` of the network.
        t: One timestep for all.
        noise: Standard normal noise of the images' shape.

    Returns:
        A float32 array of the images' shape.
    """
    timesteps = np.full(len(images), t, "int32")
    return np.asarray(diffusion.q_sample(np.float32(images), timesteps, noise))


def blend(first, second, weights):
    """Linear interpolation between two diffused images, Ho et al. 2020, section 4.3.

    Args:
        first: Array of shape `(height, width, channels)`.
        second: Array of the same shape.
        weights: Array of shape `(n,)`, 0 for the first to 1 for the second.

    Returns:
        A float32 array of shape `(n, height, width, channels)`.
    """
    weights = np.asarray(weights, "float32")[:, None, None, None]
    return (1.0 - weights) * np.float32(first) + weights * np.float32(second)
