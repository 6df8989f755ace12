"""Images as arrays and as files: from [-1, 1] floats to pixels, grids and PNGs."""

import struct

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from ddpm_keras.errors import InputError
from ddpm_keras.files import written_whole

# What Pillow raises for broken files of its various formats, and for giant ones.
BROKEN_IMAGE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    struct.error,
    Image.DecompressionBombError,
)


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


def save_png(path, pixels, text=None):
    """Write a uint8 array as a PNG, whole or not at all.

    Args:
        path: Where to; folders are made.
        pixels: uint8 array of shape `(height, width[, channels])`, 1 or 3 channels.
        text: Dict of text to keep in the file, such as seed and sampler.
    """
    notes = PngInfo()
    for key, value in (text or {}).items():
        notes.add_text(key, str(value))
    with written_whole(path) as temporary:
        _picture(pixels).save(temporary, format="png", pnginfo=notes)


def save_gif(path, frames, seconds=5.0, hold=1.5):
    """Write an animation that repeats for ever, whole or not at all.

    Args:
        path: Where to; folders are made.
        frames: uint8 arrays of shape `(height, width[, channels])`, first to last.
        seconds: Duration of the frames before the last.
        hold: Seconds that the last frame stays.
    """
    # One palette for all colour frames, taken from the last: else colours flicker.
    pictures = [_picture(frame) for frame in frames]
    if pictures[-1].mode == "RGB":
        palette = pictures[-1].quantize(256)
        pictures = [picture.quantize(palette=palette) for picture in pictures]
    each = max(20, round(1000 * seconds / max(1, len(frames) - 1)))  # milliseconds
    with written_whole(path) as temporary:
        pictures[0].save(
            temporary,
            format="gif",
            save_all=True,
            append_images=pictures[1:],
            duration=[each] * (len(frames) - 1) + [round(1000 * hold)],
            loop=0,
        )


def decode_image(path, channels):
    """Read an image file as a uint8 array of shape `(height, width, channels)`.

    Transparency is dropped, the camera's rotation is applied, and 16 bits become 8.

    Args:
        path: A file of any format that Pillow reads.
        channels: 1 or 3.

    Raises:
        InputError: When the file is no image, broken, or of a giant size.
    """
    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off
                image = Image.fromarray((np.asarray(image) // 257).astype("uint8"))
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except BROKEN_IMAGE_ERRORS as error:
        raise InputError(f"cannot read the image {path} ({error})") from error
    return pixels.reshape(*pixels.shape[:2], channels)


def read_image(path, height, width, channels):
    """Read one image file at a given size: its largest centred part, resized.

    Returns:
        A float32 array of shape `(height, width, channels)` in [-1, 1].

    Raises:
        InputError: When the file cannot be read as an image.
    """
    image = _picture(decode_image(path, channels))
    image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, "float32").reshape(height, width, channels)
    return pixels / 127.5 - 1.0


def _picture(pixels):
    """A Pillow image of a uint8 array with one channel, three, or none."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
