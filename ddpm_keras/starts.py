"""Where a reverse process may start other than from fresh noise.

Between two seeds, between two images, or from an image diffused part of the way. Each
is a function from the places of a batch's images to their starts, as
`ReverseProcess.batches` takes it, so that any number of images needs the memory of one
batch.
"""

import numpy as np


def between_seeds(process, first, second, count):
    """`count` starts on the great circle from one seed's noise to another's."""
    ends = np.asarray(process.noise([first, second]))
    weights = np.linspace(0.0, 1.0, count)
    return lambda places: slerp(*ends, weights[places])


def between_images(process, first, second, t, seed, count):
    """`count` starts from one image to another, both diffused to timestep `t`.

    One noise, that of `seed`, serves both ends and every image between: else the
    mixture would have too little of it. See `blend`.
    """
    noise = np.asarray(process.noise([seed]))
    ends = [
        diffuse(end[None], process.diffusion, t, noise)[0] for end in (first, second)
    ]
    weights = np.linspace(0.0, 1.0, count)
    return lambda places: blend(*ends, weights[places])


def from_image(process, image, t, seeds):
    """One image diffused to timestep `t`, with the noise of each seed."""
    seeds = np.asarray(seeds)

    def start(places):
        images = np.broadcast_to(image, (len(places), *image.shape))
        noise = np.asarray(process.noise(seeds[places]))
        return diffuse(images, process.diffusion, t, noise)

    return start


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
