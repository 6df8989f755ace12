"""Images for training: three sources, one array, one tf.data chain.

`load_images` decodes and resizes every image once and keeps them as bytes in memory
(1,020 flowers at 64x64 are 12 MB). `make_batches` is the chain that training reads:
which images step n holds, and which of them are flipped, is a function of the seed and
of n alone, so that a run can go on from any step as if it had never stopped.
"""

import os
from pathlib import Path

import numpy as np

from ddpm_keras.errors import InputError, RunError
from ddpm_keras.images import decode_image
from ddpm_keras.petals import draw_flowers

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def load_images(config):
    """Load the data set that a configuration names.

    Args:
        config: A `Config`; its data keys are used.

    Returns:
        A uint8 array of shape `(num_images, height, width, img_channels)`.

    Raises:
        InputError: When there is no such data set, no image, or one that cannot be
            decoded.
    """
    size = config.img_size
    height, width = (size, size) if isinstance(size, int) else size
    if config.dataset_name == "petals":
        return draw_flowers(
            config.num_images, (height, width), config.img_channels, config.seed
        )
    if config.dataset_name == "folder":
        return _load_folder(config.data_dir, height, width, config.img_channels)
    return _load_tfds(config, height, width)


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
    # Rounded first: 100 * 0.07 is 7.000000000000001.
    held_out = int(np.ceil(round(len(images) * validation_fraction, 6)))
    order = np.random.default_rng(seed).permutation(len(images))
    return images[np.sort(order[held_out:])], images[np.sort(order[:held_out])]


def make_batches(images, batch_size, num_epochs, seed=0, random_flip=True):
    """The training batches of all epochs, one after another.

    Each epoch visits the images in a new order and leaves out the last, partial batch,
    so that every image has its turn over the epochs.

    Args:
        images: uint8 array of shape `(num_images, height, width, channels)`.
        batch_size: Images a batch.
        num_epochs: Number of epochs.
        seed: Seed of order and flips.
        random_flip: Whether half of the images, drawn anew each time, are mirrored.

    Returns:
        A `tf.data.Dataset` of float32 batches in [-1, 1], and the number of batches
        an epoch: pass it to `fit` as `steps_per_epoch`.

    Raises:
        InputError: When there are fewer images than make a batch.
    """
    import tensorflow as tf

    steps_per_epoch = len(images) // batch_size
    if not steps_per_epoch:
        raise InputError(
            f"batch_size: {len(images)} training images do not fill one batch of "
            f"{batch_size}; add images or make batch_size smaller"
        )
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
        return to_float(batch)

    batches = (
        tf.data.Dataset.range(steps_per_epoch * num_epochs)
        .map(batch_of, num_parallel_calls=tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )
    return batches, steps_per_epoch


def make_validation_batches(images, batch_size):
    """The images once, in order, unflipped: a `tf.data.Dataset` of float32 batches."""
    import tensorflow as tf

    return (
        tf.data.Dataset.from_tensor_slices(images)
        .batch(batch_size)
        .map(to_float)
        .prefetch(tf.data.AUTOTUNE)
    )


def to_float(images):
    """Bytes to floats in [-1, 1]."""
    import tensorflow as tf

    return tf.cast(images, "float32") / 127.5 - 1.0


def _load_folder(folder, height, width, channels):
    """Every image below a folder, in the order of their paths."""
    import tensorflow as tf

    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"data_dir: {folder} is not a folder; name one with images")
    # os.walk follows no links, so that a link to a parent folder ends nowhere.
    paths = sorted(
        os.path.join(parent, name)
        for parent, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES)
    )
    if not paths:
        raise InputError(
            f"data_dir: 0 images found in {folder} (looked for "
            f"{', '.join(IMAGE_SUFFIXES)}); name a folder that holds some"
        )
    bad = []

    def decode(path):
        try:
            return decode_image(os.fsdecode(path), channels)
        except InputError as error:
            bad.append(str(error))
            return np.zeros((1, 1, channels), "uint8")

    def load(path):
        image = tf.numpy_function(decode, [path], tf.uint8, stateful=False)
        image.set_shape((None, None, channels))
        return image

    decoded = tf.data.Dataset.from_tensor_slices([os.fsencode(p) for p in paths]).map(
        load, num_parallel_calls=tf.data.AUTOTUNE
    )
    images = _resize_all(decoded, height, width, channels)
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise InputError(f"data_dir: {min(bad)}{more}; remove or replace it")
    return images


def _load_tfds(config, height, width):
    """Every image of a TensorFlow Datasets data set's splits."""
    import tensorflow_datasets as tfds

    name = config.dataset_name
    try:
        builder = tfds.builder(name, data_dir=config.data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"dataset_name: no TFDS data set is called {name!r}; use one of "
            'tensorflow.org/datasets, or "petals", or "folder"'
        ) from error
    except (ValueError, AssertionError) as error:  # not a possible name or version
        raise InputError(
            f"dataset_name: {name!r} is not possible: {str(error).splitlines()[0]}"
        ) from error
    if "image" not in builder.info.features:
        raise InputError(f"dataset_name: {name!r} has no feature called image")
    try:
        builder.download_and_prepare()
    except OSError as error:  # no network, no space, or a server's refusal
        raise RunError(
            f"dataset_name: cannot download {name!r} ({type(error).__name__}); if you "
            "have it, name its TFDS directory by --data_dir or TFDS_DATA_DIR"
        ) from error
    for split in config.splits:
        if split.partition("[")[0] not in builder.info.splits:
            raise InputError(
                f"splits: {name!r} has no split {split!r}; it has "
                f"{', '.join(builder.info.splits)}"
            )
    decoded = builder.as_dataset(split="+".join(config.splits), shuffle_files=False)
    decoded = decoded.map(lambda example: example["image"])
    return _resize_all(decoded, height, width, config.img_channels)


def _resize_all(decoded, height, width, channels):
    """Crop, resize and gather a `tf.data.Dataset` of uint8 images of any size."""
    import tensorflow as tf

    def fit(image):
        if image.shape[-1] == 3 and channels == 1:
            image = tf.image.rgb_to_grayscale(image)
        elif image.shape[-1] == 1 and channels == 3:
            image = tf.image.grayscale_to_rgb(image)
        # The largest centred part that has the shape of the target.
        rows, columns = tf.shape(image)[0], tf.shape(image)[1]
        crop_height = tf.maximum(tf.minimum(rows, columns * height // width), 1)
        crop_width = tf.maximum(tf.minimum(columns, rows * width // height), 1)
        top, left = (rows - crop_height) // 2, (columns - crop_width) // 2
        image = image[top : top + crop_height, left : left + crop_width]
        image = tf.image.resize(image, (height, width), antialias=True)
        return tf.cast(tf.round(tf.clip_by_value(image, 0.0, 255.0)), "uint8")

    resized = decoded.map(fit, num_parallel_calls=tf.data.AUTOTUNE).batch(256)
    return np.concatenate(list(resized.as_numpy_iterator()))
