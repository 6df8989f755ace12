"""Conversion between floats in [-1, 1], pixels, and image files."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ddpm_keras.errors import InputError
from ddpm_keras.files import written_whole

# Nothing else is opened: Pillow passes some formats, such as EPS, to other programs.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")


class BrokenImageError(InputError):
    """An image file that cannot be read; `reason` is the message without the path."""

    def __init__(self, path, reason):
        super().__init__(f"cannot read the image {path}: {reason}")
        self.reason = reason


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
    picture = _picture(grid)
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
        _picture(pixels).save(temporary, format="png", pnginfo=notes)


def save_gif(path, frames, seconds=5.0, hold=2.0):
    """Write an endless animation, whole or not at all.

    Frames are enlarged by a whole factor, up to 512 pixels.

    Args:
        path: The file; missing folders are created.
        frames: uint8 arrays of shape `(height, width[, channels])`.
        seconds: Duration before the last frame, each frame taking 20 to 200 ms.
        hold: Duration of the last frame in seconds.
    """
    pictures = [_picture(frame) for frame in frames]
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


def decode_image(path, channels):
    """Read an image file as a uint8 array of shape `(height, width, channels)`.

    Transparency is dropped, EXIF orientation applied, 16 bits are rounded to 8, and
    only the first frame of an animation is read.

    Args:
        path: A JPEG, PNG, GIF, BMP or WebP file, whatever its name.
        channels: 1 or 3.

    Raises:
        BrokenImageError: When the file is missing, not such an image, cut short, or,
            by its header, far too large.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return to_channels(ImageOps.exif_transpose(image), channels)
    except Exception as error:  # Pillow raises almost anything on damaged files
        raise BrokenImageError(path, _reason(error)) from error


def to_channels(image, channels):
    """Convert an image to a uint8 array of shape `(height, width, channels)`.

    Args:
        image: A Pillow image of any mode; or an array of shape
            `(height, width, any_channels)`, uint8, or uint16 with one channel.
        channels: 1 or 3.
    """
    if isinstance(image, np.ndarray):
        image = _picture(image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        pixels = (np.asarray(image, "int32") + 128) // 257
        image = Image.fromarray(pixels.astype("uint8"))
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def fit_image(pixels, height, width):
    """Crop the largest centred part of the target's aspect ratio, and resize it.

    The result is that of the published recipe, `tf.image.resize(..., antialias=True)`
    (bilinear, in float), rounded.

    Args:
        pixels: uint8 array of shape `(rows, columns, channels)`.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        A uint8 array of shape `(height, width, channels)`.
    """
    rows, columns, channels = pixels.shape
    crop_height = max(min(rows, columns * height // width), 1)
    crop_width = max(min(columns, rows * width // height), 1)
    top, left = (rows - crop_height) // 2, (columns - crop_width) // 2
    part = pixels[top : top + crop_height, left : left + crop_width]
    if part.shape[:2] == (height, width):
        return part
    resized = np.empty((height, width, channels), "float32")
    for channel in range(channels):  # Pillow has no float images with channels
        plane = Image.fromarray(part[..., channel].astype("float32"))
        resized[..., channel] = plane.resize((width, height), Image.Resampling.BILINEAR)
    return np.rint(resized).astype("uint8")


def read_image(path, height, width, channels):
    """Read an image file, cropped and resized as by `fit_image`.

    Returns:
        A float32 array of shape `(height, width, channels)` in [-1, 1].

    Raises:
        BrokenImageError: As `decode_image`.
    """
    return to_float(fit_image(decode_image(path, channels), height, width))


def _reason(error):
    """Describe what is wrong with an image file, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG, GIF, BMP or WebP image"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return reason.splitlines()[0]


def _picture(pixels):
    """Return a Pillow image of an array with or without a channel axis."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
