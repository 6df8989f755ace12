"""Data sets of TensorFlow Datasets (TFDS).

TensorFlow is only imported inside functions, so that other data sets do not need it.
"""

import numpy as np

from ddpm_keras.data.classes import number_classes
from ddpm_keras.data.images import Images
from ddpm_keras.data.pixels import fit_image, to_channels
from ddpm_keras.errors import InputError, RunError


def load_tfds(name, splits, data_dir, height, width, channels, labelled=False):
    """Load and fit every image of some splits, downloading them if necessary.

    Args:
        name: Name of the data set, such as "oxford_flowers102".
        splits: Names of its splits, such as `["train", "validation"]`.
        data_dir: TFDS directory. None: `TFDS_DATA_DIR`, or the default of TFDS.
        height, width, channels: Shape of each image of the result.
        labelled: Whether to read the feature `label` as well.

    Returns:
        The `Images`. Their `ids` are the feature `file_name`, or where there is none,
        the places of the images in the files of the data set.

    Raises:
        InputError: When there is no such data set or split, or it has no images, or
            no labels that are asked for.
        RunError: When it cannot be downloaded, or the copy in `data_dir` is damaged.
    """
    builder = _prepare(name, data_dir)
    known = builder.info.splits
    if labelled:
        _check_label(name, builder.info.features)
    for split in splits:
        if split.partition("[")[0] not in known:
            raise InputError(
                f"splits: {name!r} has no split {split!r}; it has {', '.join(known)}"
            )
    pixels, ids, *labels = _read(builder, splits, height, width, channels, labelled)
    ids = [text.decode("utf-8", "surrogateescape") for text in ids]
    if not labelled:
        return Images(pixels, ids=ids)
    class_names = builder.info.features["label"].names
    labels, names = _number_labels(labels[0], class_names, splits)
    return Images(pixels, labels, names, ids)


def _read(builder, splits, height, width, channels, labelled):
    """Return arrays of all images, what identifies them, and any labels."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    name, features = builder.name, builder.info.features
    id_key = "tfds_id"
    if "file_name" in features and isinstance(
        features["file_name"], tfds.features.Text
    ):
        id_key = "file_name"
    keys = [id_key, "label"] if labelled else [id_key]

    def fit(pixels):
        return fit_image(to_channels(pixels, channels), height, width)

    def fit_example(example):
        pixels = tf.numpy_function(fit, [example["image"]], tf.uint8)
        return pixels, *(example[key] for key in keys)

    # TFDS caches a small data set, decoded: gigabytes that are read only once.
    reading = tfds.ReadConfig(try_autocache=False, add_tfds_id=id_key == "tfds_id")
    try:
        examples = builder.as_dataset(
            split="+".join(splits), shuffle_files=False, read_config=reading
        )
    except ValueError as error:  # an invalid slice, or an empty one
        raise InputError(
            f"splits: {splits} is not possible: {_first_line(error)}"
        ) from error
    batches = examples.map(fit_example, num_parallel_calls=tf.data.AUTOTUNE).batch(256)
    try:
        return map(np.concatenate, zip(*batches.as_numpy_iterator(), strict=True))
    except tf.errors.OpError as error:
        raise RunError(
            f"dataset_name: cannot read {name!r} ({_first_line(error)}); delete "
            f"{builder.data_dir}, and the next run prepares it again"
        ) from error


def _check_label(name, features):
    """Raise an `InputError` unless a data set has one class for each image."""
    import tensorflow_datasets as tfds

    if "label" not in features:
        problem = f"the data set {name!r} has no feature called label"
    elif not isinstance(features["label"], tfds.features.ClassLabel):
        problem = f"the feature label of the data set {name!r} is no ClassLabel"
    elif not features["label"].num_classes:
        problem = f"the data set {name!r} does not say how many classes it has"
    else:
        return
    raise InputError(f"class_labels: {problem}; leave the key out, or use another one")


def _number_labels(labels, names, splits):
    """Number the classes of the images, with their names."""
    missing = np.count_nonzero(labels < 0)
    if missing:  # TFDS has -1 where a label is not known, as in some test splits
        raise InputError(
            f"class_labels: {missing:,} of {len(labels):,} images of the splits "
            f"{', '.join(splits)} have no label; leave their split out"
        )
    return number_classes(labels.tolist(), names.__getitem__)


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
