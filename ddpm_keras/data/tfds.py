"""The images of a TensorFlow Datasets (TFDS) data set.

TensorFlow is imported by the functions, so that the other data sets need none.
"""

import numpy as np

from ddpm_keras.data.images import Images
from ddpm_keras.data.pixels import fit_image, to_channels
from ddpm_keras.errors import InputError, RunError


def load_tfds(name, splits, data_dir, height, width, channels):
    """Load and resize every image of some splits; download them if need be.

    Args:
        name: The data set's name, such as "oxford_flowers102".
        splits: Names of its splits, such as `["train", "validation"]`.
        data_dir: The TFDS directory. None: `TFDS_DATA_DIR`, or the TFDS default.
        height: Pixels of each image of the result.
        width: Pixels of each image of the result.
        channels: 1 or 3.

    Returns:
        The `Images`.

    Raises:
        InputError: When there is no such data set or split, or it has no images.
        RunError: When it cannot be downloaded, or what is in `data_dir` be read.
    """
    import tensorflow as tf

    builder = _prepared(name, data_dir)
    for split in splits:
        if split.partition("[")[0] not in builder.info.splits:
            raise InputError(
                f"splits: {name!r} has no split {split!r}; it has "
                f"{', '.join(builder.info.splits)}"
            )

    def fit(pixels):
        return fit_image(to_channels(pixels, channels), height, width)

    try:
        examples = builder.as_dataset(split="+".join(splits), shuffle_files=False)
    except ValueError as error:  # not a possible slice, or an empty one
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
            f"dataset_name: cannot read {name!r} "
            f"({_first_line(error)}); delete {builder.data_dir}, and the next run "
            "prepares it anew"
        ) from error


def _prepared(name, data_dir):
    """The TFDS builder of a data set of images, downloaded if need be."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"dataset_name: no TFDS data set is called {name!r}; use one of "
            'tensorflow.org/datasets, or "petals", or "folder"'
        ) from error
    except (ValueError, AssertionError) as error:  # not a possible name or version
        raise InputError(
            f"dataset_name: {name!r} is not possible: {_first_line(error)}"
        ) from error
    if "image" not in builder.info.features:
        raise InputError(f"dataset_name: {name!r} has no feature called image")
    try:
        builder.download_and_prepare()
    except Exception as error:  # TFDS's own errors have no base but this one
        raise RunError(
            f"dataset_name: cannot download {name!r}: {_first_line(error)}; name the "
            "TFDS directory of a copy by --data_dir or TFDS_DATA_DIR, or train on a "
            "folder of images by --dataset_name folder --data_dir PATH"
        ) from error
    return builder


def _first_line(error):
    """What an error says, or for one without an answer the address that gave none."""
    if getattr(error, "request", None):
        return f"no answer from {error.request.url}"
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    said = error.args[0] if error.args and isinstance(error.args[0], str) else error
    return (str(said) or type(error).__name__).splitlines()[0].rstrip(".:")
