"""Data sets from three sources, loaded as `Images`.

Every image is decoded and resized once and kept in memory as bytes (1,020 flowers at
64x64 are 12 MB).
"""

from ddpm_keras.data.batches import check_fills_batch
from ddpm_keras.data.classes import check_class_names, find_classes
from ddpm_keras.data.flowers import SHAPES, draw_labelled_flowers
from ddpm_keras.data.folder import find_images, image_ids, load_folder
from ddpm_keras.data.images import Images, split_indices
from ddpm_keras.data.tfds import load_tfds


def check_data_set(config):
    """Check that there are enough images for a batch, without reading any.

    Data sets of TFDS are not checked, because that needs TensorFlow.

    Args:
        config: A `Config`; its data keys are used.

    Raises:
        InputError: When a folder holds no image, or one without the
            class that is asked for, or there are fewer than a batch.
    """
    if config.dataset_name == "folder":
        ids = image_ids(config.data_dir, find_images(config.data_dir))
        if config.class_labels:
            find_classes(config.data_dir, ids)
    elif config.dataset_name == "petals":
        ids = _petal_ids(config)
    else:
        return
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
        RunError: When a data set of TFDS cannot be downloaded or read.
    """
    images = _load(config)
    if config.class_names is not None:
        check_class_names(images.names, config.class_names)
    return images


def _load(config):
    *size, channels = config.image_shape
    folder, labelled = config.data_dir, config.class_labels
    if config.dataset_name == "folder":
        return load_folder(folder, *size, channels, config.skip_bad, labelled)
    if config.dataset_name == "petals":
        pixels, labels = draw_labelled_flowers(
            config.num_images, size, channels, config.seed
        )
        # All shapes, also those that a few flowers do not show.
        labels, names = (labels, tuple(SHAPES)) if labelled else (None, ())
        return Images(pixels, labels, names, _petal_ids(config))
    name, splits = config.dataset_name, config.splits
    return load_tfds(name, splits, folder, *size, channels, labelled)


def _petal_ids(config):
    return [f"{config.seed}/{index}" for index in range(config.num_images)]
