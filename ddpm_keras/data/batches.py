"""Batches of images: by step number for training, in order for everything else.

The images and flips of training step n depend only on the seed and n, so a run can
resume at any step as if it had never stopped. Pixels are read when their batch is made:
those of a memory map need no memory.
"""

import numpy as np

from ddpm_keras.data.images import Images
from ddpm_keras.errors import InputError

# Batches kept ready. TensorFlow's own choice grew to hundreds, 1 GB of 64x64 images.
PREFETCH = 8


def check_fills_batch(num_images, batch_size):
    """Raise an `InputError` if there are fewer training images than a batch."""
    if num_images < batch_size:
        raise InputError(
            f"batch_size: {num_images} training images do not fill one batch of "
            f"{batch_size}; add images or make batch_size smaller"
        )


def make_batches(
    images,
    batch_size,
    num_epochs,
    seed=0,
    random_flip=True,
    first_step=0,
    indices=None,
    share=(0, 1),
):
    """Make the training batches of all epochs.

    Each epoch takes the images in a new random order and drops the last, partial batch.

    Args:
        images: `Images`, or a uint8 array of shape
            `(num_images, height, width, channels)`.
        batch_size: Images per batch.
        num_epochs: Number of epochs.
        seed: Seed of the order and the flips.
        random_flip: Whether each image is mirrored with probability 1/2.
        first_step: The step to start at, counted from 0 over all epochs.
        indices: Int array, the images to train on. Default: all.
        share: Number of this host and number of hosts, which divides `batch_size`. Each
            batch is only the host's part of it, in the order of the hosts.

    Returns:
        A `tf.data.Dataset` of float32 batches in [-1, 1], or of `(batch, labels)` if
        there are labels; and the number of batches per epoch.

    Raises:
        InputError: When there are fewer images than a batch.
    """
    import tensorflow as tf

    images = images if isinstance(images, Images) else Images(images)
    indices = np.arange(len(images)) if indices is None else indices
    check_fills_batch(len(indices), batch_size)
    steps_per_epoch = len(indices) // batch_size
    with tf.device("CPU"):  # out of the GPU's memory
        indices = tf.constant(indices, "int64")
    last_image = len(indices) - 1
    places = tf.range(batch_size, dtype="int64")
    columns = tf.range(images.pixels.shape[2])
    mine = _part(batch_size, share)

    def batch_of(step):
        epoch, step_in_epoch = step // steps_per_epoch, step % steps_per_epoch
        # The shuffle uses few bits of its seed, so hash (seed, epoch) first.
        epoch_seed = tf.random.stateless_uniform(
            (2,), tf.stack([seed, epoch]), minval=None, maxval=None, dtype="int32"
        )
        chosen = tf.random.experimental.index_shuffle(
            step_in_epoch * batch_size + places, epoch_seed, last_image
        )
        pixels, *labels = _read(images, tf.gather(indices, chosen[mine]))
        if random_flip:
            flip_seed = tf.stack([seed, step])
            coins = tf.random.stateless_uniform((batch_size, 1), flip_seed)[mine]
            # Far faster than reversed slices in TensorFlow.
            order = tf.where(coins < 0.5, columns[::-1], columns)
            pixels = tf.gather(pixels, order, axis=2, batch_dims=1)
        return _batch(pixels, *labels)

    batches = (
        tf.data.Dataset.range(first_step, steps_per_epoch * num_epochs)
        .map(batch_of, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(PREFETCH)
    )
    return batches, steps_per_epoch


def make_validation_batches(images, batch_size, indices, share=(0, 1)):
    """Make a data set like `make_batches`, of the images at `indices`, unflipped.

    The last batch is filled up with the first images, which therefore count twice:
    devices can only share full batches, and a partial one would be compiled again.
    """
    import tensorflow as tf

    num_batches = -(-len(indices) // batch_size)
    chosen = np.resize(indices, (num_batches, batch_size)).astype("int64")
    return (
        tf.data.Dataset.from_tensor_slices(chosen[:, _part(batch_size, share)])
        .map(lambda some: _batch(*_read(images, some)))
        .prefetch(PREFETCH)
    )


def _part(batch_size, share):
    """Return the places in a batch that one of several hosts reads, as a slice."""
    host, num_hosts = share
    size = batch_size // num_hosts
    return slice(host * size, (host + 1) * size)


def _read(images, chosen):
    """Return tensors of the pixels at an int64 tensor, and of any labels."""
    import tensorflow as tf

    # NumPy reads arrays and memory maps where they are; a tensor would be a copy.
    pixels = tf.numpy_function(images.pixels.__getitem__, [chosen], tf.uint8)
    pixels.set_shape((*chosen.shape, *images.pixels.shape[1:]))
    if images.labels is None:
        return (pixels,)
    return pixels, tf.gather(images.labels, chosen)


def _batch(pixels, labels=None):
    """Scale pixels as `pixels.to_float` does, and pair them with any labels."""
    import tensorflow as tf

    images = tf.cast(pixels, "float32") / 127.5 - 1.0
    return images if labels is None else (images, labels)


def full_batches(count, batch_size):
    """Cut `count` images into batches, the last one filled up by repeating its images.

    Args:
        count: Number of images, 1 or more.
        batch_size: Images per batch; at most `count` are used.

    Returns:
        A list of `(slice, indices)`: the images that a batch is for, and the indices of
        all images in it, an int array. Drop the results of the repeated ones.
    """
    batch_size = min(batch_size, count)
    batches = []
    for first in range(0, count, batch_size):
        some = slice(first, min(first + batch_size, count))
        places = np.resize(np.arange(some.start, some.stop), batch_size)
        batches.append((some, places))
    return batches
