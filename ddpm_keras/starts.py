"""Starts of the reverse process other than fresh noise.

The first three functions return the `start` of `ReverseProcess.batches`: a function
from the places of a batch's images to their starts, so that any number of images needs
the memory of one batch.
"""

import numpy as np


def between_seeds(process, first, second, count):
    """Start `count` images on the great circle from one seed's noise to another's."""
    ends = _to_numpy(process.noise([first, second]))
    weights = np.linspace(0.0, 1.0, count)
    return lambda places: slerp(*ends, weights[places])


def between_images(process, first, second, t, seed, count):
    """Start `count` images on the line between two images diffused to timestep `t`.

    Both ends share the noise of `seed`: a mixture of two would have too little
    variance. See `blend`.
    """
    noise = _to_numpy(process.noise([seed]))
    ends = [
        diffuse(end[None], process.diffusion, t, noise)[0] for end in (first, second)
    ]
    weights = np.linspace(0.0, 1.0, count)
    return lambda places: blend(*ends, weights[places])


def from_image(process, image, t, seeds):
    """Start from one image diffused to timestep `t`, with the noise of each seed."""
    seeds = np.asarray(seeds)

    def start(places):
        images = np.broadcast_to(image, (len(places), *image.shape))
        noise = _to_numpy(process.noise(seeds[places]))
        return diffuse(images, process.diffusion, t, noise)

    return start


def slerp(first, second, weights):
    """Interpolate spherically between two noise images (Shoemake 1985).

    A straight line between two Gaussian samples loses variance; the great circle keeps
    it.

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
    """Diffuse clean images to one timestep `t`, by `GaussianDiffusion.q_sample`.

    Args:
        images: Array of shape `(n, height, width, channels)` in [-1, 1].
        diffusion: The `GaussianDiffusion` of the network.
        t: Timestep of all images.
        noise: Standard normal noise, broadcast to the images' shape.

    Returns:
        A float32 array of the images' shape.
    """
    timesteps = np.full(len(images), t, "int32")
    return _to_numpy(diffusion.q_sample(np.float32(images), timesteps, noise))


def blend(first, second, weights):
    """Interpolate linearly between two diffused images (Ho et al. 2020, section 4.3).

    Arguments and result are as in `slerp`.
    """
    weights = np.asarray(weights, "float32")[:, None, None, None]
    return (1.0 - weights) * np.float32(first) + weights * np.float32(second)


def _to_numpy(tensor):
    # Here, because the commands import this module before they load Keras.
    from keras import ops

    return ops.convert_to_numpy(tensor)  # also from a device
