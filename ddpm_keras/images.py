"""Images as arrays and as files: from [-1, 1] floats to pixels, grids and PNGs."""

import numpy as np
from PIL import Image

from ddpm_keras.files import written_whole


def to_uint8(images):
    """Map floats in [-1, 1] to bytes, rounded, with values outside the range clipped.

    Args:
        images: Array of any shape.

    Returns:
        A uint8 array of the same shape, 0 to 255.
    """
    images = (np.asarray(images, dtype="float32") + 1.0) * 127.5
    return np.clip(np.rint(images), 0, 255).astype("uint8")


def make_grid(images, num_cols=None, padding=2):
    """Lay images out in rows on a white ground.

    Args:
        images: Array of shape `(num_images, height, width, channels)`, floats in
            [-1, 1] or uint8.
        num_cols: Images in a row. Default: as square a grid as possible.
        padding: White pixels between images.

    Returns:
        A uint8 array of shape `(rows, columns, channels)`, or `(rows, columns)` for
        images with one channel.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        images = to_uint8(images)
    num_images, height, width, channels = images.shape
    if num_cols is None:
        num_cols = int(np.ceil(np.sqrt(num_images)))
    num_rows = -(-num_images // num_cols)
    grid = np.full(
        (
            num_rows * (height + padding) + padding,
            num_cols * (width + padding) + padding,
            channels,
        ),
        255,
        dtype="uint8",
    )
    for k, image in enumerate(images):
        top = padding + k // num_cols * (height + padding)
        left = padding + k % num_cols * (width + padding)
        grid[top : top + height, left : left + width] = image
    return grid[..., 0] if channels == 1 else grid


def save_png(path, pixels):
    """Write a uint8 array as a PNG, whole or not at all.

    Args:
        path: Where to; folders are made.
        pixels: uint8 array of shape `(height, width, 3)` or `(height, width)`.
    """
    with written_whole(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png")
