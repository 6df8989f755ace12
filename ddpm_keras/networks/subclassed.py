"""Networks that are subclasses of `keras.Model`, which do not declare their inputs."""

import keras

from ddpm_keras.errors import require


def declare_inputs(network, image_shape=None):
    """Return a network that declares its inputs: this one, or a model around it.

    Args:
        network: A `keras.Model` that is called on `[noisy_images, t]`.
        image_shape: Height, width and channels of the images. Default: those of its
            first call.

    Returns:
        `network` if it has declared its inputs, else a functional model of it.

    Raises:
        ArgumentError: When nobody says what images it takes.
    """
    if getattr(network, "inputs", None):
        return network
    if image_shape is None and network.built:
        image_shape = _find_image_shape(network.get_build_config())
    require(
        image_shape is not None,
        "A subclass of keras.Model does not declare its inputs: give `image_shape`, "
        "(height, width, channels), or call it once on [images, t] before.",
        network=network.name,
    )
    inputs = [
        keras.Input(tuple(image_shape), name="image_input"),
        keras.Input((), dtype="int32", name="time_input"),
    ]
    return keras.Model(inputs, network(inputs), name=network.name)


def _find_image_shape(shapes):
    """Return the first shape of four axes, without the batch."""
    if isinstance(shapes, dict):
        shapes = list(shapes.values())
    if not isinstance(shapes, (list, tuple)):
        return None
    if len(shapes) == 4 and all(n is None or isinstance(n, int) for n in shapes):
        return tuple(shapes[1:])
    return next(filter(None, map(_find_image_shape, shapes)), None)
