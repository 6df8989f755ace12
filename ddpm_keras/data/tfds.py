"""Data sets of TensorFlow Datasets (TFDS).

TensorFlow is only imported inside functions, so that other data sets do not need it.
"""

import numpy as np

from ddpm_keras.data.images import Images
from ddpm_keras.data.pixels import fit_image, to_channels
from ddpm_keras.errors import InputError, RunError


def load_tfds(name, splits, data_dir, height, width, channels):
    """Load and fit every image of some splits, downloading them if necessary.

    Args:
        name: Name of the data set, such as "oxford_flowers102".
        splits: Names of its splits, such as `["train", "validation"]`.
        data_dir: TFDS directory. None: `TFDS_DATA_DIR`, or the default of TFDS.
        height, width, channels: Shape of each image of the result.

    Returns:
        The `Images`.

    Raises:
        InputError: When there is no such data set or split, or it has no images.
        RunError: When it cannot be downloaded, or the copy in `data_dir` is damaged.
    """
    import tensorflow as tf

    builder = _prepare(name, data_dir)
    known = builder.info.splits
    for split in splits:
        if split.partition("[")[0] not in known:
            raise InputError(
                f"splits: {name!r} has no split {split!r}; it has {', '.join(known)}"
            )

    def fit(pixels):
        return fit_image(to_channels(pixels, channels), height, width)

    try:
        examples = builder.as_dataset(split="+".join(splits), shuffle_files=False)
    except ValueError as error:  # an invalid slice, or an empty one
        raise InputError(
            f"splits: {splits} is not possible: {_first_line(error)}"
        ) from error
    resized = examples.map(
        lambda example: tf.numpy_function(fit, [example["image"]], tf.uint8),
        num_parallel_calls=tf.data.AUTOTUNE,
    ).batch(256)
    try:
        return Images(np.concatenate(list(resized.as_numpy_iterator())))
    except tf.errors.OpError as error:
        raise RunError(
            f"dataset_name: cannot read {name!r} ({_first_line(error)}); delete "
            f"{builder.data_dir}, and the next run prepares it again"
        ) from error


def _prepare(name, data_dir):
    """Return the TFDS builder of a data set of images, downloaded if necessary."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"dataset_name: no TFDS data set is called {name!r}; use one of "
            'tensorflow.org/datasets, or "petals", or "folder"'
        ) from error
    except (ValueError, AssertionError) as error:  # an invalid name or version
        raise InputError(
            f"dataset_name: {name!r} is not possible: {_first_line(error)}"
        ) from error
    if "image" not in builder.info.features:
        raise InputError(f"dataset_name: {name!r} has no feature called image")
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS's errors have no narrower base
        raise RunError(
            f"dataset_name: cannot download {name!r}: {_first_line(error)}; name the "
            "TFDS directory of a copy with --data_dir or TFDS_DATA_DIR, or train on a "
            "folder of images with --dataset_name folder --data_dir PATH"
        ) from error
    return builder


def _first_line(error):
    """Return the first line of an error, or the address that did not answer."""
    if getattr(error, "request", None):
        return f"no answer from {error.request.url}"
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    said = error.args[0] if error.args and isinstance(error.args[0], str) else error
    return (str(said) or type(error).__name__).splitlines()[0].rstrip(".:")
