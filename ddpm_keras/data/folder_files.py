"""Which files below a folder are images."""

import os
from collections.abc import Iterator

from ddpm_keras.data.classes import DATASET_JSON
from ddpm_keras.data.image_files import image_suffixes
from ddpm_keras.errors import InputError


def find_images(folder: str | None) -> list[str]:
    """Return the paths of all images below a folder, sorted, as `find_files` does."""
    return find_files(folder)[0]


def find_files(folder: str | None) -> tuple[list[str], list[str]]:
    """Return the paths of all images below a folder, and of all other files, sorted.

    Hidden files and folders are passed over. Each folder is searched once, also when
    links lead to it: those that lie below `folder` by their own path, others by the
    first link.

    Raises:
        InputError: When no folder is named, or it does not exist, holds no image or
            cannot be listed.
    """
    if folder is None:
        raise InputError(
            "data_dir: dataset_name folder needs it; name the folder of the images"
        )
    suffixes = image_suffixes()
    found_none = f"0 images found in {folder} (looked for {', '.join(suffixes)})"
    if not os.path.isdir(folder):
        raise InputError(
            f"data_dir: {found_none}: it is not a folder; name one that holds some"
        )
    images, others = [], []
    for parent, names in _walk(folder):
        for name in names:
            is_image = name.lower().endswith(suffixes)
            if is_image or name != DATASET_JSON:
                (images if is_image else others).append(os.path.join(parent, name))
    if not images:
        raise InputError(f"data_dir: {found_none}; name a folder that holds some")
    return sorted(images), sorted(others)


def image_ids(folder: str, paths: list[str]) -> list[str]:
    """Return paths found by `find_files` relative to the folder, with "/"."""
    start = len(os.path.join(folder, ""))
    return [path[start:].replace(os.sep, "/") for path in paths]


def holds_images(folder: str) -> bool:
    """Whether there are images in a folder or in those that lie directly in it."""
    suffixes = image_suffixes()
    with os.scandir(folder) as entries:
        folders = [folder, *(entry.path for entry in entries if entry.is_dir())]
    for parent in folders:
        with os.scandir(parent) as entries:
            if any(entry.name.lower().endswith(suffixes) for entry in entries):
                return True
    return False


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder and the names of its files, with nothing that is hidden."""
    seen, tops = set(), [folder]
    while tops:
        links = []
        for top in tops:
            for parent, folders, names in os.walk(top, onerror=_refuse):
                found = os.stat(parent)
                if (found.st_dev, found.st_ino) in seen:
                    folders.clear()
                    continue
                seen.add((found.st_dev, found.st_ino))
                folders[:] = [name for name in folders if not name.startswith(".")]
                below = [os.path.join(parent, name) for name in folders]
                links += filter(os.path.islink, below)
                yield parent, [name for name in names if not name.startswith(".")]
        tops = sorted(links)  # `os.walk` has not followed them


def _refuse(error: OSError) -> None:
    """Stop `os.walk`, which would skip the folder without a word."""
    raise InputError(
        f"data_dir: cannot list {error.filename} ({error.strerror}); check its "
        "permissions, or name another folder"
    ) from error
