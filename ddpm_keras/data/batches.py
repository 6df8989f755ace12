"""Images cut into batches: for training by step number, and in order for the rest.

Which images training step n holds, and which of them are flipped, is a function of the
seed and of n alone, so that a run can resume at any step as if it had never stopped.
"""

import numpy as np

from ddpm_keras.data.images import Images
from ddpm_keras.errors import InputError


def check_fills_batch(num_images, batch_size):
    """Raise an `InputError` when there are fewer training images than a batch."""
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
):
    """Make the training batches of all epochs, one after another.

    Each epoch visits the images in a new order and leaves out the last, partial batch,
    so that every image has its turn over the epochs.

    Args:
        images: `Images`, or a uint8 array of shape
            `(num_images, height, width, channels)`.
        batch_size: Images a batch.
        num_epochs: Number of epochs.
        seed: Seed of order and flips.
        random_flip: Whether half of the images, drawn anew each time, are mirrored.
        first_step: The step to begin with, counted from 0 over all epochs.
        indices: The images to train on, an int array. Default: all of them.

    Returns:
        A `tf.data.Dataset` of float32 batches in [-1, 1], or, where the images have
        labels, of pairs with the labels; and the number of batches an epoch: pass it to
        `fit` as `steps_per_epoch`.

    Raises:
        InputError: When there are fewer images than make a batch.
    """
    import tensorflow as tf

    images = images if isinstance(images, Images) else Images(images)
    indices = np.arange(len(images)) if indices is None else indices
    check_fills_batch(len(indices), batch_size)
    steps_per_epoch = len(indices) // batch_size
    # On the processor: a GPU has better uses for its memory.
    with tf.device("CPU"):
        pool, indices = tf.constant(images.pixels), tf.constant(indices, "int64")
    last_image = len(indices) - 1
    places = tf.range(batch_size, dtype="int64")
    columns = tf.range(images.pixels.shape[2])

    def batch_of(step):
        epoch, step_in_epoch = step // steps_per_epoch, step % steps_per_epoch
        # The shuffle uses few bits of its seed: mix (seed, epoch) well before.
        epoch_seed = tf.random.stateless_uniform(
            (2,), tf.stack([seed, epoch]), minval=None, maxval=None, dtype="int32"
        )
        chosen = tf.random.experimental.index_shuffle(
            step_in_epoch * batch_size + places, epoch_seed, last_image
        )
        chosen = tf.gather(indices, chosen)
        batch = tf.gather(pool, chosen)
        if random_flip:
            coins = tf.random.stateless_uniform(
                (batch_size, 1), seed=tf.stack([seed, step])
            )
            # Mirrored by column numbers: TensorFlow's reversed slices are far slower.
            order = tf.where(coins < 0.5, columns[::-1], columns)
            batch = tf.gather(batch, order, axis=2, batch_dims=1)
        labels = images.labels
        return _batch(batch, None if labels is None else tf.gather(labels, chosen))

    batches = (
        tf.data.Dataset.range(first_step, steps_per_epoch * num_epochs)
        .map(batch_of, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    return batches, steps_per_epoch


def make_validation_batches(images, batch_size, indices):
    """Batches of some images in order, unflipped, as `make_batches` has them.

    The last batch is filled up with the first images, which so count again: several
    devices share only full batches, and another size would be compiled once more.
    """
    import tensorflow as tf

    num_batches = -(-len(indices) // batch_size)
    chosen = images.take(np.resize(indices, num_batches * batch_size))
    tensors = chosen.pixels if chosen.labels is None else (chosen.pixels, chosen.labels)
    return (
        tf.data.Dataset.from_tensor_slices(tensors)
        .batch(batch_size, drop_remainder=True)
        .map(_batch)
        .prefetch(tf.data.AUTOTUNE)
    )


def _batch(pixels, labels=None):
    """Pixels as floats in [-1, 1], as `pixels.to_float`; with labels, a pair."""
    import tensorflow as tf

    images = tf.cast(pixels, "float32") / 127.5 - 1.0
    return images if labels is None else (images, labels)


def full_batches(count, batch_size):
    """Cut `count` images into batches, the last one filled up with its own images.

    Args:
        count: Number of images, 1 or more.
        batch_size: Images a batch; of fewer images there is one batch of their number.

    Returns:
        A list of pairs: the slice of images that a batch stands for, and the places of
        all its images, an int array. What comes of the filled-up ones is left out.
    """
    batch_size = min(batch_size, count)
    slices = [
        slice(first, min(first + batch_size, count))
        for first in range(0, count, batch_size)
    ]
    return [(s, np.resize(np.arange(s.start, s.stop), batch_size)) for s in slices]
