"""Samples in a folder that was begun before: which images are there, and which not."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ddpm_keras.cli.sample_labels import Chosen
from ddpm_keras.cli.writers import difference, png_of
from ddpm_keras.errors import InputError, short

SAMPLE = re.compile(r"\d{6,10}(_[^/]+)?\.png")  # as `png_of` names them
LEFTOVER = re.compile(rf"\.{SAMPLE.pattern}\.\w+\.tmp")  # of a killed process


def holds_samples(folder: Path) -> bool:
    """Whether a folder is there and holds nothing but samples, by their names."""
    return folder.is_dir() and all(
        SAMPLE.fullmatch(path.name) or LEFTOVER.fullmatch(path.name)
        for path in folder.iterdir()
    )


def missing_places(folder: Path, chosen: Chosen, text: dict[str, Any]) -> np.ndarray:
    """Return the places of the images that a folder lacks.

    Leftovers of killed processes are removed.

    Args:
        folder: The folder, which may be missing.
        chosen: All images that are asked for.
        text: The text in the file of each image, besides its seed and label.

    Returns:
        An int array of places in `chosen.seeds`.

    Raises:
        InputError: When the folder holds an image of another sampling.
    """
    found = set(folder.glob("*.png"))
    missing = []
    for place, seed in enumerate(chosen.seeds):
        if not found:
            missing.extend(range(place, len(chosen.seeds)))
            break
        path, own = png_of(folder, seed, chosen.names[place] if chosen.names else "")
        if path in found:
            _check_text(path, {**text, **own})
            found.remove(path)
        else:
            missing.append(place)
    for path in found:
        raise InputError(
            f"--out: {path} is of another sampling; name another folder or use --force"
        )
    for path in folder.glob(".*.tmp"):
        if LEFTOVER.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    return np.array(missing, int)


def _check_text(path: Path, text: dict[str, Any]) -> None:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            found = dict(image.text)
    except Exception as error:  # Pillow raises almost anything on damaged files
        raise InputError(
            f"--out: {path} cannot be read; remove it, and it is sampled again"
        ) from error
    if other := difference(found, text):
        name, was, wanted = other
        raise InputError(
            f"--out: {path} is of another sampling ({name} {short(str(was))}, not "
            f"{short(str(wanted))}); name another folder or use --force"
        )
