"""Augmentation that a network is told of, so that its samples do not show it.

Karras et al. 2022, appendix F.2 (https://arxiv.org/abs/2206.00364): each change is made
with a small probability, and the network receives a vector that describes all of them,
zero for an image left as it is. Samples are drawn with zeros. Unlike the paper's code,
images are interpolated linearly and edges reflected.
"""

import math

import keras
from keras import ops

# Numbers that `augment` needs for each image.
NUM_UNIFORM, NUM_NORMAL = 12, 4

SCALE = ANISOTROPY = 0.2  # standard deviations of the base-2 logarithms
SHIFT = 0.125  # standard deviation, as a share of the side


def augment(images, uniform, normal, probability):
    """Change each image at random, and describe the changes.

    The changes are flips left to right and top to bottom, quarter turns, and scaling,
    rotation, anisotropic scaling and shift by any amount, each with `probability`.

    Args:
        images: Float tensor of shape `(batch, height, width, channels)`.
        uniform: Random numbers in [0, 1), shape `(batch, NUM_UNIFORM)`.
        normal: Standard normal numbers, shape `(batch, NUM_NORMAL)`.
        probability: Probability of each change, 0 to 1.

    Returns:
        The images, and a float32 tensor of shape `(batch, AUGMENT_DIM)`.
    """
    height, width = images.shape[1:3]
    # One coin for each of the seven changes; a change not made has the value 0.
    coins = ops.cast(uniform[:, :7] < probability, "float32")
    across, down, turned, scaled, rotated, stretched, shifted = _columns(coins)
    flip_x = across * ops.floor(2.0 * uniform[:, 7])
    flip_y = down * ops.floor(2.0 * uniform[:, 8])
    turns = turned * ops.floor(4.0 * uniform[:, 9])
    angle = rotated * (2.0 * uniform[:, 10] - 1.0) * math.pi
    direction = uniform[:, 11] * math.pi
    scale = scaled * SCALE * normal[:, 0]
    stretch = stretched * ANISOTROPY * normal[:, 1]
    shift_x, shift_y = (shifted * SHIFT * normal[:, k] for k in (2, 3))

    # Exact, since a flip or turn alone must not blur: cos is 1, 0, -1, 0.
    turn_cos = ops.abs(turns - 2.0) - 1.0
    turn_sin = ops.where(turns == 1, 1.0, 0.0) - ops.where(turns == 3, 1.0, 0.0)
    angle_cos, angle_sin = ops.cos(angle), ops.sin(angle)
    matrix = _product(
        _matrix(1.0 - 2.0 * flip_x, 0.0, 0.0, 1.0 - 2.0 * flip_y),
        _matrix(turn_cos, -turn_sin, turn_sin, turn_cos),
        _matrix(2.0**-scale, 0.0, 0.0, 2.0**-scale),
        _matrix(angle_cos, -angle_sin, angle_sin, angle_cos),
        _stretching(stretch, direction),
    )
    offset = shift_x * width, shift_y * height
    vector = [flip_x, flip_y, turn_cos - 1.0, turn_sin, scale]
    vector += [angle_cos - 1.0, angle_sin]
    # Opposite directions stretch alike, so the angle counts twice.
    vector += [stretch * ops.cos(2.0 * direction), stretch * ops.sin(2.0 * direction)]
    vector += [shift_x, shift_y]
    return _resample(images, matrix, offset), ops.stack(vector, axis=1)


def _resample(images, matrix, offset):
    """Take each pixel from `matrix` times its place, from the centre, plus `offset`."""
    (a, b), (c, d) = matrix
    height, width = images.shape[1:3]
    x, y = (width - 1) / 2, (height - 1) / 2
    zero = ops.zeros_like(a)
    rows = [a, b, x - a * x - b * y + offset[0], c, d, y - c * x - d * y + offset[1]]
    return keras.ops.image.affine_transform(
        images,
        ops.stack([*rows, zero, zero], axis=1),
        interpolation="bilinear",
        fill_mode="reflect",
        data_format="channels_last",
    )


def _stretching(stretch, direction):
    """Divide by 2^stretch along a direction, and multiply by it across."""
    cos, sin = ops.cos(direction), ops.sin(direction)
    # A sum around the identity, which no stretch leaves as it is.
    along, across = 2.0**-stretch - 1.0, 2.0**stretch - 1.0
    return _matrix(
        1.0 + along * cos**2 + across * sin**2,
        (along - across) * cos * sin,
        (along - across) * cos * sin,
        1.0 + along * sin**2 + across * cos**2,
    )


def _matrix(a, b, c, d):
    return (a, b), (c, d)


def _product(first, *others):
    for second in others:
        (a, b), (c, d) = first
        (e, f), (g, h) = second
        first = _matrix(a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h)
    return first


def _columns(table):
    return ops.unstack(table, axis=1)
