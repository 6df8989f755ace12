"""`folder`: every image below a folder, and word of those that cannot be read."""

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ddpm_keras.data.images import Images
from ddpm_keras.data.pixels import BrokenImageError, decode_image, fit_image
from ddpm_keras.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
# Broken images named in one line; when there are more, a file lists them all.
MOST_NAMED = 20


def find_images(folder):
    """The paths of all images below a folder, sorted.

    Hidden files and folders are passed over, and so are links to folders, so that one
    to a parent ends nowhere.

    Raises:
        InputError: When the folder is none, holds no image, or cannot be looked into.
    """
    found_none = f"0 images found in {folder} (looked for {', '.join(IMAGE_SUFFIXES)})"
    if not os.path.isdir(folder):
        raise InputError(
            f"data_dir: {found_none}: it is not a folder; name one that holds some"
        )
    paths = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [
            os.path.join(parent, name)
            for name in names
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    if not paths:
        raise InputError(f"data_dir: {found_none}; name a folder that holds some")
    return sorted(paths)


def load_folder(folder, height, width, channels, skip_bad=False):
    """Decode and resize every image below a folder, in the order of their paths.

    Args:
        folder: The folder.
        height: Pixels of each image of the result.
        width: Pixels of each image of the result.
        channels: 1 or 3.
        skip_bad: Whether images that cannot be read are left out, with a line on
            stderr, in place of an error.

    Returns:
        The `Images`.

    Raises:
        InputError: As `find_images`; or naming every image that cannot be read.
    """
    paths = find_images(folder)
    pixels = np.empty((len(paths), height, width, channels), "uint8")
    reasons = {}

    def load(k):
        try:
            pixels[k] = fit_image(decode_image(paths[k], channels), height, width)
        except BrokenImageError as error:
            reasons[k] = error.reason

    with ThreadPoolExecutor() as pool:  # Pillow works outside Python's lock
        for _ in pool.map(load, range(len(paths))):
            pass
    if not reasons:
        return Images(pixels)
    bad = sorted(reasons)
    lines = [
        f"{_printable(os.path.relpath(paths[k], folder))} ({reasons[k]})" for k in bad
    ]
    where = _printable(str(folder))
    count = f"data_dir: {len(bad)} of {len(paths)} images in {where} cannot be read"
    some_good = len(bad) < len(paths)
    if skip_bad and some_good:
        print(f"{count} and are left out: {_first(lines)}", file=sys.stderr)
        return Images(np.delete(pixels, bad, axis=0), skipped=tuple(lines))
    rest = ", or train on the rest with --skip_bad true" if some_good else ""
    raise InputError(
        f"{count}: {_first(lines)}{_listed(lines)}; remove or replace each{rest}"
    )


def _refuse(error):
    # os.walk alone would pass over the folder and its images in silence.
    raise InputError(
        f"data_dir: cannot look into {error.filename} ({error.strerror}); allow it, or "
        "name another folder"
    ) from error


def _printable(name):
    """A file name in one line that any stream can print."""
    return name if name.isprintable() else repr(name)


def _first(lines):
    more = len(lines) - MOST_NAMED
    return ", ".join(lines[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _listed(lines):
    """Where a file lists all of them, if they are too many for one line."""
    if len(lines) <= MOST_NAMED:
        return ""
    with tempfile.NamedTemporaryFile(
        "w", prefix="bad_images_", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.writelines(f"{line}\n" for line in lines)
    return f", all listed in {file.name}"
