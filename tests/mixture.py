"""Data of two normal distributions, and the exact answer in place of a network.

An "image" is one pixel of two channels. Where images here have more pixels, those are
as many independent ones; they cost less, since noise is drawn image by image.
"""

import keras
import numpy as np
from exact_noise import network_of
from keras import ops

SHARES = (0.3, 0.7)
MODES = np.float32([[1.0, -0.5], [-0.6, 0.7]])  # their means
SIGMA = 0.15  # their standard deviation in each channel

MEAN = SHARES @ MODES
VARIANCE = SHARES @ (MODES - MEAN) ** 2 + SIGMA**2


def draw(shape, seed=0):
    """Draw clean images, float32 of shape `(*shape, 2)`."""
    rng = np.random.default_rng(seed)
    modes = MODES[rng.choice(2, size=shape, p=SHARES)]
    return (modes + SIGMA * rng.normal(size=modes.shape)).astype("float32")


def share_of_first(images):
    """The share of the pixels that lie nearer to the first mode."""
    squares = ((images[..., None, :] - MODES) ** 2).sum(-1)
    return (squares[..., 0] < squares[..., 1]).mean()


def expected_start(x, abar, math=np):
    """Return E[x_0 | x_t = x] by Bayes' rule; `math` is `numpy` or `keras.ops`."""
    scale = abar**0.5
    variance = abar * SIGMA**2 + 1.0 - abar  # of x_t in each mode
    errors = [x - scale * mode for mode in MODES]
    squares = [math.sum(e * e, axis=-1, keepdims=True) for e in errors]
    odds = float(np.log(SHARES[0] / SHARES[1])) + (squares[1] - squares[0]) / (
        2.0 * variance
    )
    share = 0.5 + 0.5 * math.tanh(0.5 * odds)
    slope = scale * SIGMA**2 / variance
    first, second = (
        mode + slope * error for mode, error in zip(MODES, errors, strict=True)
    )
    return share * first + (1.0 - share) * second


class ExactOutput(keras.layers.Layer):
    """The mean of what the diffusion's `target` is for x_t: what minimises the loss."""

    def __init__(self, diffusion):
        super().__init__()
        self.diffusion = diffusion

    def call(self, x, t):
        abar = ops.take(ops.convert_to_tensor(self.diffusion.alphas_cumprod), t)
        abar = abar[:, None, None, None]
        x_start = expected_start(x, abar, ops)
        noise = (x - ops.sqrt(abar) * x_start) / ops.sqrt(1.0 - abar)
        return self.diffusion.target(x_start, noise, t)


def exact_network(diffusion, side=1):
    return network_of(ExactOutput(diffusion), (side, side, 2))
