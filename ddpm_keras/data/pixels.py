"""Conversion between floats in [-1, 1], pixels, and the pictures that are written."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ddpm_keras.files import written_whole


def to_uint8(images):
    """Map floats in [-1, 1], of any shape, to uint8 by rounding and clipping."""
    images = (np.asarray(images, dtype="float32") + 1.0) * 127.5
    return np.clip(np.rint(images), 0, 255).astype("uint8")


def to_float(images):
    """Map uint8, of any shape, to float32 in [-1, 1]."""
    return np.asarray(images).astype("float32") / 127.5 - 1.0


def shown_shape(shape):
    """Return a shape as text, such as 64x64x3."""
    return "x".join(map(str, shape))


def make_grid(images, num_cols=None, padding=2):
    """Arrange images in rows on a white background.

    Args:
        images: Array of shape `(num_images, height, width, channels)`, floats in
            [-1, 1] or uint8.
        num_cols: Images per row. Default: as square a grid as possible.
        padding: Width of the white border around each image, in pixels.

    Returns:
        A uint8 array of shape `(rows, columns, channels)`, or `(rows, columns)` if
        there is one channel.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        images = to_uint8(images)
    num_images, height, width, channels = images.shape
    if num_cols is None:
        num_cols = int(np.ceil(np.sqrt(num_images)))
    num_rows = -(-num_images // num_cols)
    down, right = height + padding, width + padding
    sides = num_rows * down + padding, num_cols * right + padding
    grid = np.full((*sides, channels), 255, "uint8")
    for k, image in enumerate(images):
        top, left = padding + k // num_cols * down, padding + k % num_cols * right
        grid[top : top + height, left : left + width] = image
    return grid[..., 0] if channels == 1 else grid


def name_rows(grid, names, size=14):
    """Write a name to the left of each row of a grid.

    Args:
        grid: What `make_grid` returns.
        names: The name of each row, from the top.
        size: Height of the letters in pixels.

    Returns:
        A wider uint8 array of the same height.
    """
    font = ImageFont.load_default(size)
    width = int(max(font.getlength(name) for name in names)) + size
    picture = to_picture(grid)
    named = Image.new(picture.mode, (width + picture.width, picture.height), "white")
    named.paste(picture, (width, 0))
    pen = ImageDraw.Draw(named)
    for k, name in enumerate(names):
        middle = (k + 0.5) * picture.height / len(names)
        pen.text((size // 2, middle), name, "black", font, anchor="lm")
    return np.asarray(named)


def save_png(path, pixels, text=None):
    """Write a uint8 array as a PNG, whole or not at all.

    Args:
        path: The file; missing folders are created.
        pixels: uint8 array of shape `(height, width[, channels])`, 1 or 3 channels.
        text: Dict of text chunks to store in the file, such as seed and sampler.
    """
    notes = PngInfo()
    for key, value in (text or {}).items():
        notes.add_text(key, str(value))
    with written_whole(path) as temporary:
        to_picture(pixels).save(temporary, format="png", pnginfo=notes)


def save_gif(path, frames, seconds=5.0, hold=2.0):
    """Write an endless animation, whole or not at all.

    Frames are enlarged by a whole factor, up to 512 pixels.

    Args:
        path: The file; missing folders are created.
        frames: uint8 arrays of shape `(height, width[, channels])`.
        seconds: Duration before the last frame, each frame taking 20 to 200 ms.
        hold: Duration of the last frame in seconds.
    """
    pictures = [to_picture(frame) for frame in frames]
    if pictures[-1].mode == "RGB":
        # Colours flicker unless all frames share a palette, here the last one's, and
        # still pixels flicker when dithered.
        palette = pictures[-1].quantize(256)
        dither = Image.Dither.NONE
        pictures = [p.quantize(palette=palette, dither=dither) for p in pictures]
    width, height = pictures[-1].size
    factor = max(1, 512 // max(width, height))
    size = factor * width, factor * height
    pictures = [p.resize(size, Image.Resampling.NEAREST) for p in pictures]
    each = 1000 * seconds / max(1, len(frames) - 1)  # milliseconds
    each = round(min(max(each, 20), 200))
    with written_whole(path) as temporary:
        pictures[0].save(
            temporary,
            format="gif",
            save_all=True,
            append_images=pictures[1:],
            duration=[each] * (len(frames) - 1) + [round(1000 * hold)],
            loop=0,
        )


def to_picture(pixels):
    """Return a Pillow image of an array with or without a channel axis."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
