"""Image files of all kinds, decoded, cropped and resized within limits of memory."""

import contextlib
import errno
import functools
import importlib
import importlib.util
import os
import stat
import struct
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError, features

from ddpm_keras.data.pixels import to_float, to_picture
from ddpm_keras.errors import InputError

# The kinds that are read, and how their names end. Nothing else is opened: Pillow
# passes some kinds, such as EPS, to other programs.
KINDS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "JPEG2000": (".jp2", ".j2k"),
    "PPM": (".ppm", ".pgm"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif"),
}
HEIF_PLUGIN = "pillow_heif"
MAX_PIXELS = 40_000_000  # of a decoded image: 0.5 GB while it is converted
MAX_JPEG_PIXELS = 120_000_000  # of a JPEG, which is decoded reduced above `MAX_PIXELS`
MAX_PIXELS_AT_ONCE = 60_000_000  # of all images that threads of a process have open
# What Pillow raises where the EXIF of an image cannot be read.
BAD_EXIF = (SyntaxError, ValueError, TypeError, KeyError, struct.error)


class BrokenImageError(InputError):
    """An image file that cannot be read.

    Attributes:
        reason: The message without the path.
        lasting: Whether the file is at fault, which may else be a good one.
    """

    def __init__(self, path, reason, lasting=True):
        super().__init__(f"cannot read the image {path}: {reason}")
        self.reason, self.lasting = reason, lasting


class _Turns:
    """Lets threads in while their sizes together stay below a limit, or one alone."""

    def __init__(self, limit: int) -> None:
        self.limit, self._taken = limit, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def take(self, size: int) -> Iterator[None]:
        size = min(size, self.limit)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + size <= self.limit)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()


_turns = _Turns(MAX_PIXELS_AT_ONCE)


@functools.cache
def image_suffixes() -> tuple[str, ...]:
    """Return how the names of images end that can be read here."""
    kinds = dict(KINDS)
    if not features.check("avif"):
        del kinds["AVIF"]
    if importlib.util.find_spec(HEIF_PLUGIN) is None:
        del kinds["HEIF"]
    return tuple(suffix for suffixes in kinds.values() for suffix in suffixes)


def is_colour(text: str) -> bool:
    """Whether a text is a colour that Pillow knows, without transparency."""
    try:
        return len(ImageColor.getrgb(text)) == 3
    except ValueError:
        return False


def read_pixels(path, height, width, channels, background="white"):
    """Read an image file, cropped and resized as by `fit_image`.

    Only so many pixels are decoded at once in all threads that a process stays below
    1 GB.

    Args:
        path: The file, whatever its name; see `decode_image`.
        height, width, channels: Shape of the result.
        background: Colour behind transparent pixels, such as "white" or "#ff8800".

    Returns:
        A uint8 array of shape `(height, width, channels)`.

    Raises:
        BrokenImageError: As `decode_image`.
    """
    with _opened(path) as image:
        return _fit(_to_mode(image, channels, background), height, width)


def read_image(path, height, width, channels, background="white"):
    """Read an image file like `read_pixels`, as float32 in [-1, 1]."""
    return to_float(read_pixels(path, height, width, channels, background))


def decode_image(path, channels, background="white"):
    """Read an image file as a uint8 array of shape `(height, width, channels)`.

    Transparent pixels show the background, EXIF orientation is applied, 16 bits of
    grey are rounded to 8 (Pillow cuts those of colours), and only the first frame of an
    animation is read. A JPEG of more than `MAX_PIXELS` is decoded at a half, a quarter
    or an eighth of its size.

    Args:
        path: A file of one of the `KINDS`, whatever its name.
        channels: 1 or 3.
        background: Colour behind transparent pixels, such as "white" or "#ff8800".

    Raises:
        BrokenImageError: When the file is missing, no file, not such an image, cut
            short, or, by its header, too large; or when the system does not give it.
    """
    with _opened(path) as image:
        return to_channels(image, channels, background)


def to_channels(image, channels, background="white"):
    """Convert an image to a uint8 array of shape `(height, width, channels)`.

    Args:
        image: A Pillow image of any mode; or an array of shape
            `(height, width, any_channels)`, uint8, or uint16 with one channel.
        channels: 1 or 3.
        background: Colour behind transparent pixels.
    """
    if isinstance(image, np.ndarray):
        image = to_picture(image)
    return _to_pixels(_to_mode(image, channels, background))


def fit_image(pixels, height, width):
    """Crop the largest centred part of the target's aspect ratio, and resize it.

    The result is that of the published recipe, `tf.image.resize(..., antialias=True)`
    (bilinear, in float), rounded.

    Args:
        pixels: uint8 array of shape `(rows, columns, channels)`, 1 or 3 channels.
        height: Height of the result in pixels.
        width: Width of the result in pixels.

    Returns:
        A uint8 array of shape `(height, width, channels)`.
    """
    return _fit(to_picture(pixels), height, width)


# Memory counts here: a step holds one copy of a large image, and one plane of floats.


def _to_mode(image: Image.Image, channels: int, background: str) -> Image.Image:
    """Return an image in grey or colour of 8 bits without transparency."""
    if image.mode == "F":
        raise ValueError("floating-point pixels, of an unknown range")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        image = _to_8_bits(image)
    alpha = None
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        alpha = image.getchannel("A")
    mode = "L" if channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if alpha is None:
        return image
    composite = Image.new(mode, image.size, ImageColor.getcolor(background, mode))
    composite.paste(image, mask=alpha)
    return composite


def _to_pixels(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels.reshape(*pixels.shape[:2], -1)


def _fit(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Return the pixels of an image in grey or colour; see `fit_image`."""
    columns, rows = image.size
    crop_height = max(min(rows, columns * height // width), 1)
    crop_width = max(min(columns, rows * width // height), 1)
    top, left = (rows - crop_height) // 2, (columns - crop_width) // 2
    box = left, top, left + crop_width, top + crop_height
    if (crop_width, crop_height) == (width, height):
        return _to_pixels(image.crop(box))
    resized = []
    for band in image.getbands():  # Pillow has no float images with channels
        plane = image.getchannel(band).crop(box).convert("F")
        plane = plane.resize((width, height), Image.Resampling.BILINEAR)
        resized.append(np.rint(np.asarray(plane)).astype("uint8"))
    return np.stack(resized, axis=-1)


@contextlib.contextmanager
def _opened(path) -> Iterator[Image.Image]:
    """Yield an image, upright, when it is this thread's turn to decode it."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            raise BrokenImageError(path, "not a regular file")
        with Image.open(path, formats=_formats()) as image:
            size = image.width * image.height
            _check_size(path, image, size)
            with _turns.take(size):
                try:
                    image.load()
                    with contextlib.suppress(*BAD_EXIF):  # the pixels are there
                        ImageOps.exif_transpose(image, in_place=True)
                    yield image
                finally:
                    image.close()  # frees the pixels before another's turn
    except BrokenImageError:
        raise
    except Exception as error:  # Pillow raises almost anything on damaged files
        lasting = _is_lasting(path, error)
        raise BrokenImageError(path, _reason(error), lasting) from error


def _check_size(path, image: Image.Image, size: int) -> None:
    """Have a large JPEG decoded reduced; refuse what is too large."""
    if size <= MAX_PIXELS:
        return
    limit = MAX_PIXELS
    if image.format in ("JPEG", "MPO"):  # MPO: several JPEGs, of which one is read
        limit = MAX_JPEG_PIXELS
        for factor in (2, 4, 8):
            reduced = max(1, image.width // factor), max(1, image.height // factor)
            if size // factor**2 <= MAX_PIXELS:
                break
        if size <= limit:
            image.draft(image.mode, reduced)
            return
    raise BrokenImageError(path, f"more than {limit:,} pixels")


@functools.cache
def _formats() -> tuple[str, ...]:
    """Prepare Pillow, once; return its names of the kinds that can be read here."""
    # Our limits are lower than those that it warns of.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    if importlib.util.find_spec(HEIF_PLUGIN) is not None:
        importlib.import_module(HEIF_PLUGIN).register_heif_opener()
    Image.init()
    # Blocks that the C library gives back to the system when they are free.
    Image.core.set_block_size(64 * 2**20)
    return tuple(kind for kind in KINDS if kind in Image.OPEN)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Round an image of 16 bits, and make its transparent value so."""
    values = np.asarray(image, "int32")
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("pixels of more than 16 bits")
    rounded = Image.fromarray(((values + 128) // 257).astype("uint8"))
    transparent = image.info.get("transparency")
    if transparent is not None:
        rounded.putalpha(Image.fromarray(255 * (values != transparent).astype("uint8")))
    return rounded


def _is_lasting(path, error: Exception) -> bool:
    """Whether a file is at fault, and not its permissions, the disk or the memory."""
    if not isinstance(error, OSError):
        return not isinstance(error, MemoryError)
    if error.errno in (errno.ENOENT, errno.ELOOP):
        return os.path.islink(path)  # to nowhere; a file has vanished
    # Pillow's own have no number; a damaged file has it seek behind any possible end.
    return error.errno in (None, errno.EINVAL)


def _reason(error: Exception) -> str:
    """Describe what is wrong with an image file, in a few words."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a kind that is read here"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels"
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return reason.splitlines()[0]
