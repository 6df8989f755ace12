"""Sampled images to disk, as they come: a grid, a folder of PNGs, or an `.npz`.

Their writers take an iterable of `(seeds, images)` batches, floats in [-1, 1], and
return the number of images written. A folder and an `.npz` need the memory of one
batch only. Where the iterable stops early, what came is written; where nothing came,
nothing is. Two more writers show the way to the images.
"""

import contextlib
import itertools
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from ddpm_keras.data.pixels import make_grid, save_gif, save_png, to_uint8
from ddpm_keras.errors import RunError
from ddpm_keras.files import written_whole


def write_grid(path, batches, text=None, num_cols=None):
    """Write all images as one PNG grid; `text` goes into the file."""
    images = [to_uint8(images) for _, images in batches]
    if not images:
        return 0
    images = np.concatenate(images)
    with _naming_file(path):
        save_png(path, make_grid(images, num_cols), text)
    return len(images)


def write_folder(folder, batches, text=None):
    """Write each image as a PNG named by its seed, such as `000042.png`."""
    count = 0
    for seeds, images in batches:
        for seed, pixels in zip(seeds, to_uint8(images), strict=True):
            with _naming_file(png_path(folder, seed)) as path:
                save_png(path, pixels, {**(text or {}), "seed": seed})
            count += 1
    return count


def png_path(folder, seed):
    """The file that `write_folder` gives to the image of a seed."""
    return Path(folder) / f"{seed:06d}.png"


def write_npz(path, batches, image_shape, text=None):
    """Write the arrays `images` (uint8) and `seeds`, and each other entry of `text`.

    `numpy.savez` would need all images at once; here they wait in a temporary file
    until their number is known, which an array's header begins with.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        return 0
    with (
        _naming_file(path),
        written_whole(path) as temporary,
        tempfile.TemporaryFile(dir=temporary.parent) as pixels,
    ):
        seeds = []
        for batch_seeds, images in itertools.chain([first], batches):
            pixels.write(to_uint8(images).tobytes())
            seeds.extend(batch_seeds)
        pixels.seek(0)
        with zipfile.ZipFile(temporary, "w") as archive:
            with archive.open(_entry("images"), "w", force_zip64=True) as file:
                header = {"descr": "|u1", "fortran_order": False}
                header["shape"] = (len(seeds), *image_shape)
                np.lib.format.write_array_header_1_0(file, header)
                shutil.copyfileobj(pixels, file)
            for name, value in {**(text or {}), "seeds": seeds}.items():
                with archive.open(_entry(name), "w") as file:
                    np.lib.format.write_array(file, np.array(value), allow_pickle=False)
    return len(seeds)


def write_gif(path, frames):
    """Write the way to some images as an animation: x_t, and x_0 at its right.

    Args:
        path: The file.
        frames: Pairs (x_t, x_0) of uint8 arrays of shape
            `(num_images, height, width, channels)`, first to last.
    """
    pictures = [
        np.concatenate([make_grid(images) for images in frame], axis=1)
        for frame in frames
    ]
    with _naming_file(path):
        save_gif(path, pictures)


def write_strip(path, frames, text=None, num_rows=8, num_cols=10):
    """Write the predicted clean images over time as a PNG, one row an image.

    As figure 6 of Ho et al. 2020.

    Args:
        path: The file.
        frames: As for `write_gif`.
        text: Goes into the file.
        num_rows: Images at most.
        num_cols: Frames at most, evenly spaced; the last is always among them.
    """
    shown = np.linspace(0, len(frames) - 1, min(num_cols, len(frames))).round()
    rows = np.stack([frames[int(k)][1][:num_rows] for k in shown], axis=1)
    with _naming_file(path):
        save_png(path, make_grid(rows.reshape(-1, *rows.shape[2:]), len(shown)), text)


@contextlib.contextmanager
def _naming_file(path):
    """Raise a `RunError` that names the file which a full disk, say, kept out."""
    try:
        yield path
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); make room or name another "
            "place"
        ) from error


def _entry(name):
    """A member of the archive with a fixed date: the same images, the same bytes."""
    return zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
