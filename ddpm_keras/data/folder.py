"""The `folder` data set: every image below a folder."""

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ddpm_keras.data.classes import find_classes, number_classes
from ddpm_keras.data.images import Images
from ddpm_keras.data.pixels import BrokenImageError, decode_image, fit_image
from ddpm_keras.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
# Broken images named in one message; if there are more, a file lists them all.
MOST_NAMED = 20


def find_images(folder: str | None) -> list[str]:
    """Return the paths of all images below a folder, sorted.

    Hidden files and folders are skipped, and so are links to folders, which may form a
    loop.

    Raises:
        InputError: When no folder is named, or it does not exist, holds no image or
            cannot be listed.
    """
    if folder is None:
        raise InputError(
            "data_dir: dataset_name folder needs it; name the folder of the images"
        )
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


def image_ids(folder: str, paths: list[str]) -> list[str]:
    """Return paths found by `find_images` relative to the folder, with "/"."""
    start = len(os.path.join(folder, ""))
    return [path[start:].replace(os.sep, "/") for path in paths]


def load_folder(
    folder: str,
    height: int,
    width: int,
    channels: int,
    skip_bad: bool = False,
    labelled: bool = False,
) -> Images:
    """Decode and fit every image below a folder, in the order of their paths.

    Their `ids` are these paths, and with `labelled` they have labels.

    With `skip_bad`, images that cannot be read are left out, with a line on stderr.

    Raises:
        InputError: As `find_images` and `find_classes`; or when images cannot be read,
            with their names.
    """
    paths = find_images(folder)
    ids = image_ids(folder, paths)
    classes = find_classes(folder, ids) if labelled else None
    pixels = np.empty((len(paths), height, width, channels), "uint8")
    reasons = {}

    def load(k):
        try:
            pixels[k] = fit_image(decode_image(paths[k], channels), height, width)
        except BrokenImageError as error:
            reasons[k] = error.reason

    with ThreadPoolExecutor() as pool:  # Pillow releases Python's lock
        list(pool.map(load, range(len(paths))))
    skipped = ()
    if reasons:
        skipped = _skip(folder, paths, reasons, skip_bad)
        good = [k for k in range(len(paths)) if k not in reasons]
        pixels, ids = pixels[good], [ids[k] for k in good]
        classes = classes and [classes[k] for k in good]
    labels, names = number_classes(classes) if labelled else (None, ())
    return Images(pixels, labels, names, ids, skipped)


def _skip(
    folder: str, paths: list[str], reasons: dict[int, str], skip_bad: bool
) -> tuple[str, ...]:
    """Tell which images cannot be read; return a line on each, or raise."""
    lines = [
        f"{_printable(os.path.relpath(paths[k], folder))} ({reasons[k]})"
        for k in sorted(reasons)
    ]
    first, more = ", ".join(lines[:MOST_NAMED]), len(lines) - MOST_NAMED
    if more > 0:
        first += f" and {more} more"
    where = _printable(str(folder))
    count = f"data_dir: {len(lines)} of {len(paths)} images in {where} cannot be read"
    some_good = len(lines) < len(paths)
    if skip_bad and some_good:
        print(f"{count} and are left out: {first}", file=sys.stderr)
        return tuple(lines)
    listed = f", all listed in {_write_list(lines)}" if more > 0 else ""
    rest = ", or train on the rest with --skip_bad true" if some_good else ""
    raise InputError(f"{count}: {first}{listed}; remove or replace each{rest}")


def _refuse(error: OSError) -> None:
    """Stop `os.walk`, which would skip the folder without a word."""
    raise InputError(
        f"data_dir: cannot list {error.filename} ({error.strerror}); check its "
        "permissions, or name another folder"
    ) from error


def _printable(name: str) -> str:
    """Quote a file name that does not fit on a line or in any encoding."""
    return name if name.isprintable() else repr(name)


def _write_list(lines: list[str]) -> str:
    """Write lines to a new temporary file and return its path."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="bad_images_", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.writelines(f"{line}\n" for line in lines)
    return file.name
