"""Data sets from three sources, loaded as `Images`.

Every image is decoded and resized once, and kept as bytes in memory or in a cache on
disk (1,020 flowers at 64x64 are 12 MB).
"""

import os
import re

from ddpm_keras.data.batches import check_fills_batch
from ddpm_keras.data.cache import keeps_on_disk, load_cached
from ddpm_keras.data.classes import check_class_names, find_classes
from ddpm_keras.data.folder import FolderSource
from ddpm_keras.data.folder_files import find_images, holds_images, image_ids
from ddpm_keras.data.images import split_indices
from ddpm_keras.data.petals import PetalSource, petal_ids
from ddpm_keras.data.tfds import TfdsSource
from ddpm_keras.errors import InputError, short


def check_data_set(config):
    """Check that there are enough images for a batch, without reading any.

    Data sets of TFDS are not checked, because that needs TensorFlow.

    Args:
        config: A `Config`; its data keys are used.

    Raises:
        InputError: When a folder holds no image, or one without the
            class that is asked for, or there are fewer than a batch.
    """
    check_source(config)
    if config.dataset_name == "folder":
        ids = image_ids(config.data_dir, find_images(config.data_dir))
        if config.class_labels:
            find_classes(config.data_dir, ids)
    elif config.dataset_name == "petals":
        ids = petal_ids(config.seed, range(open_source(config).count))
    else:
        return
    # The hashes of a million names take a second, and chance does not hold out twice as
    # many images as it should.
    if len(ids) * (1 - config.validation_fraction) < 2 * config.batch_size + 1000:
        training, _ = split_indices(ids, config.validation_fraction)
        check_fills_batch(len(training), config.batch_size)


def load_images(config):
    """Load the data set that a configuration names.

    "petals" and "folder" need no TensorFlow.

    Args:
        config: A `Config`; its data keys are used.

    Returns:
        `Images` of the configuration's size, with labels if `class_labels` is true.

    Raises:
        InputError: When there is no such data set, no image, or, unless `skip_bad`,
            one that cannot be decoded; when images have no labels that are asked for,
            or other classes than `class_names`.
        RunError: When a data set of TFDS cannot be downloaded or read, or the cache
            cannot be written.
    """
    source = open_source(config)
    if keeps_on_disk(source, config.cache, config.cache_dir):
        images = load_cached(source, config.cache_dir)
    else:
        images = source.read()
    if config.class_names is not None:
        check_class_names(images.names, config.class_names)
    return images


def open_source(config):
    """Return the `Source` that a configuration names."""
    check_source(config)
    shape, labelled = config.image_shape, config.class_labels
    if config.dataset_name == "folder":
        return FolderSource(
            config.data_dir, shape, config.background, config.skip_bad, labelled
        )
    if config.dataset_name == "petals":
        return PetalSource(config.num_images, config.seed, shape, labelled)
    return TfdsSource(
        config.dataset_name,
        config.splits,
        config.data_dir,
        shape,
        config.background,
        labelled,
    )


def check_source(config):
    """Refuse a folder of images where another source of images is named.

    It would be passed over, or TFDS would write into it.
    """
    name, folder = config.dataset_name, config.data_dir
    if name == "folder":
        return
    if (
        name.startswith(("/", "./", "../", "~"))
        or os.sep in name
        and os.path.isdir(name)
    ):
        raise InputError(
            f"dataset_name: {short(repr(name))} is a path; for the images in that "
            f"folder use --dataset_name folder --data_dir {name}"
        )
    if name == "petals" and folder is not None:
        raise InputError(
            "data_dir: petals are drawn and read no folder; for the images in "
            f"{folder} use --dataset_name folder, or leave the key out"
        )
    if folder is None or not os.path.isdir(folder):
        return
    is_tfds = os.path.isdir(os.path.join(folder, re.split("[/:]", name)[0]))
    if not is_tfds and holds_images(folder):
        raise InputError(
            f"data_dir: {folder} holds images, and no data set {name!r} of TFDS; for "
            "these images use --dataset_name folder, or name another folder"
        )
