"""A look at the first images that `fit` is given, before hours are spent on them."""

import warnings

import keras
from keras import ops

from ddpm_keras.denoiser import count_classes, takes
from ddpm_keras.errors import require
from ddpm_keras.labels import check_labels

LOOKED_AT = 32
UNKNOWN = -2  # the cardinality of a data set that may give its batches only once


def look_at(data, network, labels=None):
    """Refuse images of another size and unknown labels; warn of another range.

    Args:
        data: What `fit` takes: an array, a `PyDataset` or a `tf.data.Dataset`. Others,
            such as generators, are left alone, since a look would take a batch.
        network: The network to train.
        labels: The labels, if `data` is an array of images.

    Raises:
        ArgumentError: When the network does not take images of this shape, or does not
            know a label.
    """
    images, *rest = _first_batch(data)
    labels = rest[0] if rest else labels
    if hasattr(labels, "shape") and takes(network, "label_input"):
        check_labels(ops.convert_to_numpy(labels), count_classes(network))
    images = _as_floats(images)
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


def _first_batch(data):
    """Return some images, and perhaps labels; None where nothing can be looked at."""
    first = None
    if hasattr(data, "shape"):
        first = data[:LOOKED_AT]
    elif isinstance(data, keras.utils.PyDataset):
        first = data[0]
    elif hasattr(data, "cardinality") and int(data.cardinality()) != UNKNOWN:
        first = next(iter(data.take(1)), None)
    return first if isinstance(first, (tuple, list)) else (first,)


def _as_floats(images):
    """Return images as a float array; None where they are none."""
    if not hasattr(images, "shape"):
        return None
    dtype = keras.backend.standardize_dtype(images.dtype)
    if not dtype.startswith(("float", "bfloat")):
        return None  # the first step refuses them
    return ops.convert_to_numpy(ops.cast(images, "float32"))
