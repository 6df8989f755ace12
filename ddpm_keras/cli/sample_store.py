"""Samples kept on disk by batch, so that an interrupted evaluation can resume."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpm_keras.cli.writers import difference, write_npz
from ddpm_keras.errors import InputError
from ddpm_keras.samplers import Steps


def sample_or_reuse(
    folder: Path,
    process: Any,
    plan: Steps,
    seeds: Sequence[int],
    stamp: dict[str, Any],
    force: bool = False,
    labels: np.ndarray | None = None,
    **options: Any,
) -> tuple[np.ndarray, int]:
    """Sample one image per seed, reusing those in the folder.

    An image depends only on its seed, its label and the stamp, so images of a smaller
    or interrupted evaluation are reused; the stamp must tell how seeds get labels.

    Args:
        folder: Folder of the samples, one `.npz` file per batch.
        process: A `ReverseProcess`.
        plan: The `Steps` of a sampler.
        seeds: One int per image.
        stamp: Strings and ints on which the images depend besides the seeds, such as
            the sampler; stored in each file and compared.
        force: Whether to remove files with another stamp.
        labels: The label of each seed. Default: no labels.
        **options: Options of `ReverseProcess.batches`, such as `batch_size`.

    Returns:
        A uint8 array of shape `(len(seeds), height, width, channels)`, and the number
        of images reused.

    Raises:
        InputError: When the folder holds samples with another stamp, or other files,
            and `force` is off.
    """
    stored = {}
    for path in sorted(folder.glob("*.npz")):
        try:
            stored |= _read(path, stamp, process.image_shape)
        except InputError:
            if not force:
                raise
            path.unlink()
    places = [k for k, seed in enumerate(seeds) if seed not in stored]
    missing = [seeds[k] for k in places]
    reused = len(seeds) - len(missing)
    if missing:
        options["labels"] = None if labels is None else labels[places]
        for batch in process.batches(plan, missing, **options):
            path = folder / f"{batch[0][0]:06d}.npz"
            write_npz(path, [batch], process.image_shape, stamp)
            stored |= _read(path, stamp, process.image_shape)
    return np.stack([stored[seed] for seed in seeds]), reused


def _read(
    path: Path, stamp: dict[str, Any], image_shape: tuple[int, ...]
) -> dict[int, np.ndarray]:
    """Read the images of a file, by seed."""
    try:
        with np.load(path) as file:
            arrays = dict(file)
        images, seeds = arrays.pop("images"), arrays.pop("seeds")
        found = {key: str(value) for key, value in arrays.items()}
        readable = images.shape == (len(seeds), *image_shape)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        readable = False
    if not readable:
        raise InputError(
            f"--out: {path} holds no samples of this size; name another folder, or use "
            "--force to remove it"
        )
    if other := difference(found, stamp):
        name, was, wanted = other
        raise InputError(
            f"--out: {path} holds samples of {name} {was}, not {wanted}; name another "
            "folder, or use --force to remove them"
        )
    return dict(zip(seeds.tolist(), images, strict=True))
