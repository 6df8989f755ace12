"""`Denoiser`: every call of a network outside training."""

import keras
from keras import ops

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.networks import NETWORKS
from ddpm_keras.weights import load_network, read_config


class Denoiser:
    """A network and the meaning of its output: predicts clean images from noisy ones.

    Sampling, likelihood and features need not know the network's inputs, nor what it
    was trained to output.

    Args:
        network: A `keras.Model` over `[image_input, time_input]`.
        diffusion: The `GaussianDiffusion` that it was trained with.
        config: Its `Config`; only `feature_model` needs it.

    Call arguments:
        x_t: Noisy images of shape `(batch, height, width, channels)`.
        t: Integer timesteps of shape `(batch,)`.

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

    def __call__(self, x_t, t):
        output = ops.cast(self.network([x_t, t], training=False), "float32")
        return self.diffusion.predict_start(output, x_t, t)

    def feature_model(self):
        """Return a `keras.Model` from `[x_t, t]` to features, `(batch, channels)`.

        These are the means over all pixels of the `feature_layer` of the network's
        record in `NETWORKS`.
        """
        layer = self.network.get_layer(NETWORKS[self.config.network].feature_layer)
        pool = keras.layers.GlobalAveragePooling2D(dtype="float32")
        return keras.Model(self.network.inputs, pool(layer.output))
