"""Data sets from three sources, loaded as `Images`.

Every image is decoded and resized once and kept in memory as bytes (1,020 flowers at
64x64 are 12 MB).
"""

from ddpm_keras.data.batches import check_fills_batch
from ddpm_keras.data.flowers import draw_flowers
from ddpm_keras.data.folder import find_images, load_folder
from ddpm_keras.data.images import Images, count_held_out
from ddpm_keras.data.tfds import load_tfds


def check_data_set(config):
    """Check that there are enough images for a batch, without reading any.

    Data sets of TFDS are not checked, because that needs TensorFlow.

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
        `Images` of the configuration's size.

    Raises:
        InputError: When there is no such data set, no image, or, unless `skip_bad`,
            one that cannot be decoded.
        RunError: When a data set of TFDS cannot be downloaded or read.
    """
    *size, channels = config.image_shape
    if config.dataset_name == "folder":
        return load_folder(config.data_dir, *size, channels, config.skip_bad)
    if config.dataset_name == "petals":
        return Images(draw_flowers(config.num_images, size, channels, config.seed))
    name, splits, folder = config.dataset_name, config.splits, config.data_dir
    return load_tfds(name, splits, folder, *size, channels)
