"""The data set of a configuration, from one of three sources, as `Images`.

Every image is decoded and resized once and kept as bytes in memory (1,020 flowers at
64x64 are 12 MB).
"""

from ddpm_keras.data.batches import check_fills_batch
from ddpm_keras.data.flowers import draw_flowers
from ddpm_keras.data.folder import find_images, load_folder
from ddpm_keras.data.images import Images, count_held_out
from ddpm_keras.data.tfds import load_tfds


def check_data_set(config):
    """Report at once what would fail later: no images, or too few for a batch.

    No image is read and TensorFlow is not loaded, so the data sets of TFDS are not
    checked.

    Args:
        config: A `Config`; its data keys are used.

    Raises:
        InputError: When a folder holds no image, or there are fewer than a batch.
    """
    if config.dataset_name == "folder":
        num_images = len(find_images(config.data_dir))
    elif config.dataset_name == "petals":
        num_images = config.num_images
    else:
        return
    held_out = count_held_out(num_images, config.validation_fraction)
    check_fills_batch(num_images - held_out, config.batch_size)


def load_images(config):
    """Load the data set that a configuration names.

    "petals" and "folder" need no TensorFlow.

    Args:
        config: A `Config`; its data keys are used.

    Returns:
        The `Images`, uint8 of the configuration's size.

    Raises:
        InputError: When there is no such data set, no image, or one that cannot be
            decoded (but see `skip_bad`).
        RunError: When a data set of TFDS cannot be downloaded or read.
    """
    height, width, channels = config.image_shape
    if config.dataset_name == "folder":
        return load_folder(config.data_dir, height, width, channels, config.skip_bad)
    if config.dataset_name == "petals":
        size = height, width
        return Images(draw_flowers(config.num_images, size, channels, config.seed))
    return load_tfds(
        config.dataset_name, config.splits, config.data_dir, height, width, channels
    )
