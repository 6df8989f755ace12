"""Sampled images to disk, as they come: a grid, a folder of PNGs, or an `.npz`.

Every writer takes an iterable of `(seeds, images)` batches, floats in [-1, 1], and
returns the number of images written. A folder and an `.npz` need the memory of one
batch only. Where the iterable stops early, what came is written.
"""

import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from ddpm_keras.files import written_whole
from ddpm_keras.images import make_grid, save_png, to_uint8


def write_grid(path, batches, text=None, num_cols=None):
    """Write all images as one PNG grid; `text` goes into the file."""
    images = [to_uint8(images) for _, images in batches]
    if not images:
        return 0
    images = np.concatenate(images)
    save_png(path, make_grid(images, num_cols), text)
    return len(images)


def write_folder(folder, batches, text=None):
    """Write each image as a PNG named by its seed, such as `000042.png`."""
    count = 0
    for seeds, images in batches:
        for seed, pixels in zip(seeds, to_uint8(images), strict=True):
            save_png(png_path(folder, seed), pixels, {**(text or {}), "seed": seed})
            count += 1
    return count


def png_path(folder, seed):
    """The file that `write_folder` gives to the image of a seed."""
    return Path(folder) / f"{seed:06d}.png"


def write_npz(path, batches, image_shape, text=None):
    """Write the arrays `images` (uint8), `seeds` and one string for each of `text`.

    `numpy.savez` would need all images at once; here they wait in a temporary file
    until their number is known, which an array's header begins with.
    """
    seeds = []
    with written_whole(path) as temporary, tempfile.TemporaryFile() as pixels:
        for batch_seeds, images in batches:
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


def _entry(name):
    """A member of the archive with a fixed date: the same images, the same bytes."""
    return zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
