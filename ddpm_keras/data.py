"""Images for training: three sources, one array, one tf.data chain.

`load_images` decodes and resizes every image once and keeps them as bytes in memory
(1,020 flowers at 64x64 are 12 MB). `make_batches` is the chain that training reads:
which images step n holds, and which of them are flipped, is a function of the seed and
of n alone, so that a run can go on from any step as if it had never stopped.
"""

import numpy as np

from ddpm_keras.errors import InputError
from ddpm_keras.image_folder import find_images, load_folder
from ddpm_keras.petals import draw_flowers
from ddpm_keras.tfds_images import load_tfds


def check_data_set(config):
    """Tell in a moment what is sure to fail later: no images, or too few for a batch.

    No image is read and TensorFlow is not loaded, so that nothing is said of the data
    sets of TFDS.

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
        A uint8 array of shape `(num_images, height, width, img_channels)`.

    Raises:
        InputError: When there is no such data set, no image, or one that cannot be
            decoded (but see `skip_bad`).
        RunError: When a data set of TFDS cannot be downloaded or read.
    """
    return load_images_and_skipped(config)[0]


def load_images_and_skipped(config):
    """As `load_images`, with a list of the images that `skip_bad` left out.

    Returns:
        The array, and a list with "name (reason)" for each image left out.
    """
    height, width, channels = config.image_shape
    if config.dataset_name == "folder":
        return load_folder(config.data_dir, height, width, channels, config.skip_bad)
    if config.dataset_name == "petals":
        seed = config.seed
        return draw_flowers(config.num_images, (height, width), channels, seed), []
    images = load_tfds(
        config.dataset_name, config.splits, config.data_dir, height, width, channels
    )
    return images, []


def count_held_out(num_images, validation_fraction):
    """How many images `split_images` sets aside."""
    # Rounded first: 100 * 0.07 is 7.000000000000001.
    return int(np.ceil(round(num_images * validation_fraction, 6)))


def check_fills_batch(num_images, batch_size):
    """Raise an `InputError` when there are fewer training images than a batch."""
    if num_images < batch_size:
        raise InputError(
            f"batch_size: {num_images} training images do not fill one batch of "
            f"{batch_size}; add images or make batch_size smaller"
        )


def split_images(images, validation_fraction, seed):
    """Set a random part of the images aside.

    Args:
        images: Array of shape `(num_images, height, width, channels)`.
        validation_fraction: Share of the images to hold out, in [0, 1); at least one
            image unless it is 0.
        seed: Seed of the choice.

    Returns:
        Two arrays: the images to train on, and those held out.
    """
    held_out = count_held_out(len(images), validation_fraction)
    order = np.random.default_rng(seed).permutation(len(images))
    return images[np.sort(order[held_out:])], images[np.sort(order[:held_out])]


def make_batches(
    images, batch_size, num_epochs, seed=0, random_flip=True, first_step=0
):
    """The training batches of all epochs, one after another.

    Each epoch visits the images in a new order and leaves out the last, partial batch,
    so that every image has its turn over the epochs.

    Args:
        images: uint8 array of shape `(num_images, height, width, channels)`.
        batch_size: Images a batch.
        num_epochs: Number of epochs.
        seed: Seed of order and flips.
        random_flip: Whether half of the images, drawn anew each time, are mirrored.
        first_step: The step to begin with, counted from 0 over all epochs.

    Returns:
        A `tf.data.Dataset` of float32 batches in [-1, 1], and the number of batches
        an epoch: pass it to `fit` as `steps_per_epoch`.

    Raises:
        InputError: When there are fewer images than make a batch.
    """
    import tensorflow as tf

    check_fills_batch(len(images), batch_size)
    steps_per_epoch = len(images) // batch_size
    # On the processor: a GPU has better uses for its memory.
    with tf.device("CPU"):
        pool = tf.constant(images)
    last_image = tf.constant(len(images) - 1, "int64")
    places = tf.range(batch_size, dtype="int64")
    columns = tf.range(images.shape[2])

    def batch_of(step):
        epoch, step_in_epoch = step // steps_per_epoch, step % steps_per_epoch
        # The shuffle uses few bits of its seed: mix (seed, epoch) well before.
        epoch_seed = tf.random.stateless_uniform(
            (2,), tf.stack([seed, epoch]), minval=None, maxval=None, dtype="int32"
        )
        chosen = tf.random.experimental.index_shuffle(
            step_in_epoch * batch_size + places, epoch_seed, last_image
        )
        batch = tf.gather(pool, chosen)
        if random_flip:
            coins = tf.random.stateless_uniform(
                (batch_size, 1), seed=tf.stack([seed, step])
            )
            # Mirrored by column numbers: TensorFlow's reversed slices are far slower.
            order = tf.where(coins < 0.5, columns[::-1], columns)
            batch = tf.gather(batch, order, axis=2, batch_dims=1)
        return _to_float(batch)

    batches = (
        tf.data.Dataset.range(first_step, steps_per_epoch * num_epochs)
        .map(batch_of, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    return batches, steps_per_epoch


def make_validation_batches(images, batch_size):
    """The images in order, unflipped: a `tf.data.Dataset` of float32 batches.

    The last batch is filled up with the first images, which so count again: several
    devices share only full batches, and another size would be compiled once more.
    """
    import tensorflow as tf

    num_batches = -(-len(images) // batch_size)
    places = np.arange(num_batches * batch_size) % len(images)
    return (
        tf.data.Dataset.from_tensor_slices(images[places])
        .batch(batch_size, drop_remainder=True)
        .map(_to_float)
        .prefetch(tf.data.AUTOTUNE)
    )


def _to_float(images):
    """As `images.to_float`, in TensorFlow."""
    import tensorflow as tf

    return tf.cast(images, "float32") / 127.5 - 1.0
