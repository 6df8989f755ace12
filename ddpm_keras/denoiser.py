"""`Denoiser`: every call of a network outside training."""

import keras
from keras import ops

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import require
from ddpm_keras.labels import NO_LABEL
from ddpm_keras.networks import NETWORKS
from ddpm_keras.parts import call_in_parts
from ddpm_keras.weights import load_network, read_config


def takes(network, name):
    """Whether a network has an input of this name."""
    return name in [tensor.name for tensor in network.inputs]


def count_classes(network):
    """Count the classes that a network knows: 0 without labels.

    Raises:
        ArgumentError: When it takes labels and does not say of how many classes.
    """
    if not takes(network, "label_input"):
        return 0
    layers = {layer.name: layer for layer in network.layers}
    require(
        hasattr(layers.get("label_embedding"), "num_classes"),
        "A network with `label_input` needs a layer called `label_embedding` that has "
        "`num_classes`, such as a `LabelEmbedding`.",
        network=network.name,
    )
    return layers["label_embedding"].num_classes


def network_inputs(network, x_t, t, labels=None, changes=None):
    """Return the inputs of a network in its order.

    Args:
        network: A `keras.Model` over `[image_input, time_input]`, and `label_input` and
            `augment_input` where it has them.
        x_t: Noisy images of shape `(batch, height, width, channels)`.
        t: Integer timesteps of shape `(batch,)`.
        labels: Integer labels of shape `(batch,)`. Default: "no label".
        changes: What `augment` returns. Default: zeros, for images as they are.
    """
    inputs = [x_t, t]
    for tensor in network.inputs[2:]:
        if tensor.name == "label_input":
            inputs.append(ops.full_like(t, NO_LABEL) if labels is None else labels)
        else:
            # From the images alone: exports would take a constant for an input.
            zeros = ops.zeros_like(x_t[:, 0, 0, :1])
            zeros = ops.repeat(zeros, tensor.shape[1], axis=1)
            inputs.append(zeros if changes is None else changes)
    return tuple(inputs)


class Denoiser:
    """A network and the meaning of its output: predicts clean images from noisy ones.

    Sampling, likelihood and features need not know the network's inputs, nor what it
    was trained to output.

    Args:
        network: A `keras.Model` as `network_inputs` takes it.
        diffusion: The `GaussianDiffusion` that it was trained with.
        config: Its `Config`, which sampling does not need.

    Call arguments:
        x_t: Noisy images of shape `(batch, height, width, channels)`.
        t: Integer timesteps of shape `(batch,)`.
        labels: Integer labels of shape `(batch,)`, `NO_LABEL` for none. Default: no
            labels.

    Returns:
        The predicted clean images x_0, float32, in the shape of `x_t`, not clipped.
    """

    def __init__(self, network, diffusion, config=None):
        self.network = network
        self.diffusion = diffusion
        self.config = config
        self.image_shape = tuple(network.inputs[0].shape[1:])

    @classmethod
    def from_weights(cls, path, config=None):
        """Build the denoiser of trained weights.

        Args:
            path: A run folder, a weights file, or the prefix of a TensorFlow
                checkpoint.
            config: The `Config` of its network. Default: the one in the file.

        Raises:
            InputError: When the file cannot be read, has no configuration, or has the
                weights of another network.
        """
        config = read_config(path) if config is None else config
        diffusion = GaussianDiffusion(**config.diffusion_arguments())
        return cls(load_network(path, config), diffusion, config)

    @property
    def variables(self):
        """Variables of the network."""
        return self.network.variables

    @property
    def num_classes(self):
        """Number of classes that the network knows; 0 without labels."""
        return count_classes(self.network)

    def __call__(self, x_t, t, labels=None):
        # Keras refuses a mixture of arrays and tensors, and NumPy draws float64.
        x_t, t = ops.convert_to_tensor(x_t, "float32"), ops.convert_to_tensor(t)
        if labels is not None:
            labels = ops.convert_to_tensor(labels, "int32")
        inputs = network_inputs(self.network, x_t, t, labels)
        output = call_in_parts(self.network, inputs, training=False)
        output = ops.cast(output, "float32")
        return self.diffusion.predict_start(output, x_t, t)

    def feature_model(self):
        """Return a `keras.Model` from `[x_t, t]` to features, `(batch, channels)`.

        These are the means over all pixels of the `feature_layer` of the network's
        record in `NETWORKS`.
        """
        layer = self.network.get_layer(NETWORKS[self.config.network].feature_layer)
        pool = keras.layers.GlobalAveragePooling2D(dtype="float32")
        features = keras.Model(self.network.inputs, pool(layer.output))
        inputs = self.network.inputs[:2]
        return keras.Model(inputs, features(network_inputs(self.network, *inputs)))
