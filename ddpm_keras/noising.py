"""What a training step learns from: clean images become noisy ones and a target."""

import keras
from keras import ops

from ddpm_keras.augmentation import NUM_NORMAL, NUM_UNIFORM, augment
from ddpm_keras.denoiser import network_inputs, takes
from ddpm_keras.devices import draw_share
from ddpm_keras.diffusion import take_at
from ddpm_keras.errors import require
from ddpm_keras.labels import NO_LABEL


def noisy_batch(
    data,
    network,
    diffusion,
    seeds,
    augment_probability=0.0,
    label_dropout=0.0,
    snr_gamma=None,
):
    """Draw timesteps and noise for a batch (Ho et al. 2020, algorithm 1).

    Args:
        data: Images of shape `(batch, height, width, channels)` in [-1, 1], or
            `(images, labels)` or `(images, labels, sample_weight)`, with integer labels
            and float weights of shape `(batch,)`.
        network: The network to train.
        diffusion: The `GaussianDiffusion`.
        seeds: The `keras.random.SeedGenerator` to draw from.
        augment_probability: Probability of each change of `augment`.
        label_dropout: Share of the labels that "no label" replaces.
        snr_gamma: Gamma of `GaussianDiffusion.loss_weights`. Default: no weights.

    Returns:
        `(inputs, target, sample_weight)`: the network's inputs, what it is to output,
        and weights of shape `(batch, 1, 1)` or None.

    Raises:
        ArgumentError: When the images are not floats, or the network needs labels and
            there are none.
    """
    images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    dtype = keras.backend.standardize_dtype(images.dtype)
    require(
        dtype.startswith(("float", "bfloat")),
        "Images must be floats in [-1, 1], such as `images / 127.5 - 1.0` of 8-bit "
        "ones.",
        dtype=dtype,
    )
    images = ops.cast(images, "float32")
    batch = ops.shape(images)[:1]

    def uniform(shape):
        return keras.random.uniform(shape, dtype="float32", seed=seeds)

    def normal(shape):
        return keras.random.normal(shape, dtype="float32", seed=seeds)

    def timesteps(shape):
        return keras.random.randint(shape, 0, diffusion.timesteps, seed=seeds)

    changes = None
    if augment_probability:
        numbers = (
            draw_share(uniform, (*batch, NUM_UNIFORM)),
            draw_share(normal, (*batch, NUM_NORMAL)),
        )
        images, changes = augment(images, *numbers, augment_probability)
    if takes(network, "label_input"):
        message = "The network takes labels: give `(images, labels)`."
        require(labels is not None, message, labels=labels)
        labels = ops.cast(ops.reshape(labels, (-1,)), "int32")
        if label_dropout:
            hidden = draw_share(uniform, batch) < label_dropout
            labels = ops.where(hidden, NO_LABEL, labels)
    t = draw_share(timesteps, batch)
    noise = draw_share(normal, ops.shape(images))
    noisy_images = diffusion.q_sample(images, t, noise)
    inputs = network_inputs(network, noisy_images, t, labels, changes)
    if sample_weight is not None:  # Keras would multiply columns of pixels by them
        sample_weight = ops.cast(ops.reshape(sample_weight, (-1, 1, 1)), "float32")
    if snr_gamma is not None:
        weights = take_at(diffusion.loss_weights(snr_gamma), t)[..., 0]
        sample_weight = weights * (1.0 if sample_weight is None else sample_weight)
    return inputs, diffusion.target(images, noise, t), sample_weight
