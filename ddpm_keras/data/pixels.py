"""Images as arrays and as files: from [-1, 1] floats to pixels, grids and PNGs."""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ddpm_keras.errors import InputError
from ddpm_keras.files import written_whole

# Only these are tried: Pillow hands some others, such as EPS, to outside programs.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")


class BrokenImageError(InputError):
    """An image file that cannot be read; `reason` says why, without the path."""

    def __init__(self, path, reason):
        super().__init__(f"cannot read the image {path}: {reason}")
        self.reason = reason


def to_uint8(images):
    """Map floats in [-1, 1] to bytes, rounded, with values outside the range clipped.

    Args:
        images: Array of any shape.

    Returns:
        A uint8 array of the same shape, 0 to 255.
    """
    images = (np.asarray(images, dtype="float32") + 1.0) * 127.5
    return np.clip(np.rint(images), 0, 255).astype("uint8")


def to_float(images):
    """Map bytes to float32 in [-1, 1], the other way round.

    Args:
        images: uint8 array of any shape.

    Returns:
        A float32 array of the same shape.
    """
    return np.asarray(images).astype("float32") / 127.5 - 1.0


def shown_shape(shape):
    """A shape as text, such as 64x64x3."""
    return "x".join(map(str, shape))


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


def save_gif(path, frames, seconds=5.0, hold=2.0):
    """Write an animation that repeats for ever, whole or not at all.

    Frames smaller than 512 pixels are enlarged by a whole number, pixel by pixel.

    Args:
        path: Where to; folders are made.
        frames: uint8 arrays of shape `(height, width[, channels])`, first to last.
        seconds: Duration of the frames before the last; less for fewer than 25.
        hold: Seconds that the last frame stays.
    """
    pictures = [_picture(frame) for frame in frames]
    if pictures[-1].mode == "RGB":
        # One palette for all, taken from the last frame: else colours flicker.
        # Undithered: else still pixels do, as the dither moves with the others.
        palette = pictures[-1].quantize(256)
        pictures = [
            picture.quantize(palette=palette, dither=Image.Dither.NONE)
            for picture in pictures
        ]
    factor = max(1, 512 // max(pictures[-1].size))
    width, height = pictures[-1].size
    pictures = [
        picture.resize((factor * width, factor * height), Image.Resampling.NEAREST)
        for picture in pictures
    ]
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

    Transparency is dropped, the camera's rotation is applied, 16 bits become 8, and
    of an animation the first picture is taken.

    Args:
        path: A JPEG, PNG, GIF, BMP or WebP file, whatever its name.
        channels: 1 or 3.

    Raises:
        BrokenImageError: When the file is missing, no such image, cut short, or of a
            giant size; the last is seen in its header.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            return to_channels(ImageOps.exif_transpose(image), channels)
    except Exception as error:  # damaged files raise almost anything in Pillow
        raise BrokenImageError(path, _reason(error)) from error


def to_channels(image, channels):
    """An image as a uint8 array of shape `(height, width, channels)`.

    Args:
        image: A Pillow image of any mode; or an array of shape
            `(height, width, any_channels)`, uint8, or uint16 with one channel.
        channels: 1 or 3.
    """
    if isinstance(image, np.ndarray):
        image = _picture(image)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        pixels = (np.asarray(image, "int32") + 128) // 257
        image = Image.fromarray(pixels.astype("uint8"))
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def fit_image(pixels, height, width):
    """Cut out the largest centred part of the target's shape, and resize it.

    The resize is the antialiased bilinear one of the published recipe, in float: its
    pixels are those of `tf.image.resize(..., antialias=True)`, rounded.

    Args:
        pixels: uint8 array of shape `(rows, columns, channels)`.
        height: Pixels of the result.
        width: Pixels of the result.

    Returns:
        A uint8 array of shape `(height, width, channels)`.
    """
    rows, columns, channels = pixels.shape
    crop_height = max(min(rows, columns * height // width), 1)
    crop_width = max(min(columns, rows * width // height), 1)
    top, left = (rows - crop_height) // 2, (columns - crop_width) // 2
    part = pixels[top : top + crop_height, left : left + crop_width]
    resized = np.empty((height, width, channels), "float32")
    for channel in range(channels):  # Pillow has no image of several floats
        plane = Image.fromarray(part[..., channel].astype("float32"))
        resized[..., channel] = plane.resize((width, height), Image.Resampling.BILINEAR)
    return np.rint(resized).astype("uint8")


def read_image(path, height, width, channels):
    """Read one image file at a given size: its largest centred part, resized.

    Returns:
        A float32 array of shape `(height, width, channels)` in [-1, 1].

    Raises:
        BrokenImageError: When the file cannot be read as an image.
    """
    return to_float(fit_image(decode_image(path, channels), height, width))


def _reason(error):
    """What is wrong with an image file, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "not a JPEG, PNG, GIF, BMP or WebP image"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return reason.splitlines()[0]


def _picture(pixels):
    """A Pillow image of an array with one channel, several, or none."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
