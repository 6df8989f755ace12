"""Samples kept on disk, batch by batch, so that an interrupted evaluation goes on."""

import zipfile
from pathlib import Path

import numpy as np

from ddpm_keras.cli.writers import write_npz
from ddpm_keras.errors import InputError


def sample_or_reuse(folder, process, plan, seeds, stamp, force=False, **options):
    """Sample the images of some seeds, but for those that the folder holds already.

    An image is a function of its seed, the sampler and the weights, so those of a
    smaller or a broken-off evaluation are taken whatever their number.

    Args:
        folder: Where the samples are kept: `.npz` files of one batch each.
        process: A `ReverseProcess`.
        plan: The `Steps` of a sampler.
        seeds: One int per image.
        stamp: Dict of strings and ints on which the images depend besides the seeds,
            such as sampler and weights hash; kept in each file, and compared.
        force: Whether to remove files with another stamp.
        **options: Of `ReverseProcess.batches`: `batch_size`, `verbose`.

    Returns:
        A uint8 array of shape `(len(seeds), height, width, channels)` in the order of
        the seeds, and the number of them that were reused.

    Raises:
        InputError: When the folder holds samples with another stamp, or other files,
            and `force` is off.
    """
    folder = Path(folder)
    stored = _read_all(folder, stamp, process.image_shape, force)
    missing = [seed for seed in seeds if seed not in stored]
    reused = len(seeds) - len(missing)
    if missing:
        for batch in process.batches(plan, missing, **options):
            path = folder / f"{batch[0][0]:06d}.npz"
            write_npz(path, [batch], process.image_shape, stamp)
            stored.update(_read(path, stamp, process.image_shape))
    return np.stack([stored[seed] for seed in seeds]), reused


def _read_all(folder, stamp, image_shape, force):
    stored = {}
    for path in sorted(folder.glob("*.npz")):
        try:
            stored.update(_read(path, stamp, image_shape))
        except InputError:
            if not force:
                raise
            path.unlink()
    return stored


def _read(path, stamp, image_shape):
    """The images of a file by seed."""
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
    for key, value in stamp.items():
        if found.get(key) != str(value):
            raise InputError(
                f"--out: {path} holds samples of {key} {found.get(key)}, not {value}; "
                "name another folder, or use --force to remove them"
            )
    return dict(zip(seeds.tolist(), images, strict=True))
