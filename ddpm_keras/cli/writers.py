"""Writers of samples: a grid, a folder of PNGs, an `.npz`, an animation, a strip.

The first three take an iterable of `(seeds, images)` batches, images being floats in
[-1, 1], and return the number of images written; without a batch they write nothing.
A folder and an `.npz` need the memory of one batch. All writers raise a `RunError`
when a file cannot be written.
"""

import contextlib
import itertools
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_keras.data.pixels import (
    make_grid,
    name_rows,
    save_gif,
    save_png,
    to_uint8,
)
from ddpm_keras.errors import RunError
from ddpm_keras.files import written_whole

Batches = Iterable[tuple[Sequence[int], np.ndarray]]
Text = dict[str, Any] | None  # stored in the files


def check_finite(images: np.ndarray, weights: Path | str) -> None:
    """Raise a `RunError` when images that are being sampled are not finite."""
    if not np.isfinite(images).all():
        raise RunError(
            f"{weights}: sampling with these weights gives numbers that are not "
            "finite; use other weights"
        )


def write_grid(
    path: Path | str,
    batches: Batches,
    text: Text = None,
    num_cols: int | None = None,
    rows: Sequence[str] = (),
) -> int:
    """Write all images as one PNG grid, as square as possible by default.

    Names of `rows` stand on the left.
    """
    images = [to_uint8(images) for _, images in batches]
    if not images:
        return 0
    images = np.concatenate(images)
    grid = make_grid(images, num_cols)
    if rows:
        grid = name_rows(grid, rows[: -(-len(images) // num_cols)])
    with _naming_file(path):
        save_png(path, grid, text)
    return len(images)


def write_folder(
    folder: Path | str, batches: Batches, text: Text = None, names: Sequence[str] = ()
) -> int:
    """Write each image as a PNG named by its seed and class.

    Args:
        folder: The folder.
        batches: The images.
        text: Text to store in every file.
        names: The class name of each image. Default: no classes.
    """
    count = 0
    for seeds, images in batches:
        for seed, pixels in zip(seeds, to_uint8(images), strict=True):
            path, own = png_of(folder, seed, names[count] if names else "")
            with _naming_file(path):
                save_png(path, pixels, {**(text or {}), **own})
            count += 1
    return count


def png_of(folder: Path | str, seed: int, name: str = "") -> tuple[Path, dict]:
    """Return path and own text of an image in a folder, by its seed and class.

    The path is such as `000042.png` or `000042_water-lily.png`.
    """
    word = re.sub(r"\W+", "-", name).strip("-")[:60]
    if word != name.replace(" ", "-") or "-" in name:
        # Something is lost that may be all that tells it from another class.
        word = f"{word}-{zlib.crc32(name.encode()):08x}".strip("-")
    path = Path(folder) / (f"{seed:06d}_{word}.png" if word else f"{seed:06d}.png")
    return path, {"seed": seed} | ({"label": name} if name else {})


def difference(
    found: dict[str, str], wanted: dict[str, Any]
) -> tuple[str, str | None, str | None] | None:
    """Return the first entry that two texts do not share: its name and both values.

    A value is None where its text lacks the entry. None where the texts are equal.
    """
    for name in {**found, **wanted}:
        was, now = found.get(name), str(wanted[name]) if name in wanted else None
        if was != now:
            return name, was, now
    return None


def write_npz(
    path: Path | str,
    batches: Batches,
    image_shape: tuple[int, ...],
    text: Text = None,
    names: Sequence[str] = (),
) -> int:
    """Write the arrays `images` (uint8) and `seeds`, and one per entry of `text`.

    With the class name of each image, these are the array `labels`.

    `numpy.savez` would need all images in memory. Here they wait in a temporary file
    until their number, which the array's header states, is known.
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
            arrays = {**(text or {}), "seeds": seeds}
            if names:
                arrays["labels"] = names[: len(seeds)]
            for name, value in arrays.items():
                with archive.open(_entry(name), "w") as file:
                    np.lib.format.write_array(file, np.array(value), allow_pickle=False)
    return len(seeds)


def write_gif(path: Path | str, frames: Sequence) -> None:
    """Write an animation of sampling: x_t, with the predicted x_0 on its right.

    Args:
        path: The GIF to write.
        frames: Pairs (x_t, x_0) of uint8 arrays of shape
            `(num_images, height, width, channels)`, first to last.
    """
    pictures = [
        np.concatenate([make_grid(images) for images in frame], axis=1)
        for frame in frames
    ]
    with _naming_file(path):
        save_gif(path, pictures)


def write_strip(
    path: Path | str,
    frames: Sequence,
    text: Text = None,
    num_rows: int = 8,
    num_cols: int = 10,
) -> None:
    """Write a PNG of predicted clean images over time, as Ho et al. 2020, figure 6.

    Args:
        path: The PNG to write.
        frames: As in `write_gif`.
        text: Text to store in the file.
        num_rows: Maximum number of images, one per row.
        num_cols: Maximum number of frames, evenly spaced; always includes the last.
    """
    shown = np.linspace(0, len(frames) - 1, min(num_cols, len(frames))).round()
    rows = np.stack([frames[int(k)][1][:num_rows] for k in shown], axis=1)
    with _naming_file(path):
        save_png(path, make_grid(rows.reshape(-1, *rows.shape[2:]), len(shown)), text)


@contextlib.contextmanager
def _naming_file(path: Path | str) -> Iterator[Path | str]:
    """Turn an `OSError`, such as a full disk, into a `RunError` that names the file."""
    try:
        yield path
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); make room or name another "
            "place"
        ) from error


def _entry(name: str) -> zipfile.ZipInfo:
    """Return an archive member with a fixed date: equal images give equal bytes."""
    return zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
