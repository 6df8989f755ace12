"""A look at the first images that `fit` is given, before hours are spent on them."""

import warnings

import keras
from keras import ops

from ddpm_keras.errors import require

LOOKED_AT = 32
UNKNOWN = -2  # the cardinality of a data set that may give its batches only once


def look_at(data, network):
    """Refuse images of another size; warn of those that are not in [-1, 1].

    Args:
        data: What `fit` takes: an array, a `PyDataset` or a `tf.data.Dataset`. Others,
            such as generators, are left alone, since a look would take a batch.
        network: The network to train.

    Raises:
        ArgumentError: When the network does not take images of this shape.
    """
    images = _first_images(data)
    if images is None:
        return
    check_size(images, network)
    if not images.size or images.min() < 0 or not images.max() > 0:
        return
    top = 1 if images.max() <= 1 else 255
    advice = "2.0 * images - 1.0" if top == 1 else "images / 127.5 - 1.0"
    warnings.warn(
        f"The images seem to be in [0, {top}], and should be in [-1, 1]: {advice}.",
        stacklevel=3,
    )


def check_size(images, network):
    """Raise an `ArgumentError` when images have another shape than a network takes."""
    wanted, found = tuple(network.inputs[0].shape[1:]), tuple(images.shape[1:])
    pairs = zip(found, wanted, strict=False)
    require(
        len(found) == 3 and all(n in (None, m) for n, m in pairs),
        f"The network takes images of shape {wanted}: resize them, or build it with "
        "another `img_size` or `img_channels`.",
        shape=tuple(images.shape),
    )


def _first_images(data):
    """Return some images as a float array; None where they cannot be looked at."""
    if hasattr(data, "shape"):
        first = data[:LOOKED_AT]
    elif isinstance(data, keras.utils.PyDataset):
        first = data[0]
    elif hasattr(data, "cardinality") and int(data.cardinality()) != UNKNOWN:
        first = next(iter(data.take(1)), None)
    else:
        return None
    first = first[0] if isinstance(first, (tuple, list)) else first
    if not hasattr(first, "shape"):
        return None
    dtype = keras.backend.standardize_dtype(first.dtype)
    if not dtype.startswith(("float", "bfloat")):
        return None  # the first step refuses them
    return ops.convert_to_numpy(ops.cast(first, "float32"))
