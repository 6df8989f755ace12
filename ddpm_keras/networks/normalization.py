"""Group normalisation with its gradient in closed form."""

import keras
from keras import layers, ops

from ddpm_keras.errors import require


@keras.saving.register_keras_serializable("ddpm_keras")
class GroupNormalization(layers.GroupNormalization):
    """Keras' group normalisation, applied as one factor and one offset per channel.

    Mean and variance are computed per channel and combined per group, which passes over
    the activation fewer times than Keras' layer. They are float32 under every precision
    policy.

    Args:
        groups: Number of groups; divides the channels.
        epsilon: Added to the variance.
        **kwargs: Other arguments of Keras' layer; `axis` must be the last of four.

    Call arguments:
        inputs: Tensor of shape `(batch, height, width, channels)`.

    Returns:
        A tensor of the same shape, in the layer's compute dtype.

    Raises:
        ArgumentError: When the channels are not the last of four axes.

    Reference:
        - [Wu and He, 2018](https://arxiv.org/abs/1803.08494)
    """

    def __init__(self, groups=8, epsilon=1e-3, **kwargs):
        super().__init__(groups=groups, epsilon=epsilon, **kwargs)
        message = "Only channels in the last axis can be normalised."
        require(self.axis in (-1, 3), message, axis=self.axis)

    def build(self, input_shape):
        message = "Inputs must have shape (batch, height, width, channels)."
        require(len(input_shape) == 4, message, input_shape=tuple(input_shape))
        super().build(input_shape)

    def call(self, inputs):
        x = ops.cast(inputs, self.compute_dtype)
        ones, zeros = ops.ones(inputs.shape[-1:]), ops.zeros(inputs.shape[-1:])
        gamma = ops.cast(self.gamma, "float32") if self.scale else ones
        beta = ops.cast(self.beta, "float32") if self.center else zeros
        return _normalise(self.groups, self.epsilon)(x, gamma, beta)


def _normalise(groups, epsilon):
    """Return a function of `x, gamma, beta` with its gradient in closed form.

    Automatic differentiation would need nearly twice the passes over the activation,
    and three times the operations.
    """

    @ops.custom_gradient
    def normalise(x, gamma, beta):
        channels = x.shape[-1]
        per_channel, per_group = (-1, 1, 1, channels), (-1, groups, channels // groups)

        def grouped(values):
            return ops.reshape(values, per_group)

        def spread(values):
            """Broadcast values per group or channel against the activation."""
            values = ops.broadcast_to(values, ops.shape(mean))
            return ops.reshape(values, per_channel)

        x32 = ops.cast(x, "float32")
        mean, variance = (grouped(m) for m in ops.moments(x32, axes=(1, 2)))
        # A group's variance: within its channels, and between their means.
        group_mean = ops.mean(mean, axis=-1, keepdims=True)
        group_variance = ops.mean(
            variance + ops.square(mean - group_mean), axis=-1, keepdims=True
        )
        rate = ops.rsqrt(group_variance + epsilon)
        factor = ops.reshape(gamma, per_group[1:]) * rate
        offset = ops.reshape(beta, per_group[1:]) - group_mean * factor

        def gradient(*args, upstream=None):
            dy = args[0] if upstream is None else upstream
            dy32 = ops.cast(dy, "float32")
            # Sums over pixels, per channel.
            dy_sum = grouped(ops.sum(dy32, axis=(1, 2)))
            dy_x_sum = grouped(ops.sum(dy32 * x32, axis=(1, 2)))
            dy_centred_sum = dy_x_sum - group_mean * dy_sum
            height, width = ops.shape(x)[1:3]
            size = ops.cast(height * width * per_group[2], "float32")
            slope = -ops.sum(factor * dy_centred_sum, axis=-1, keepdims=True)
            slope = slope * ops.square(rate) / size
            shift = -ops.sum(factor * dy_sum, axis=-1, keepdims=True) / size
            shift = shift - slope * group_mean
            dx = dy32 * spread(factor) + (x32 * spread(slope) + spread(shift))
            d_gamma = ops.reshape(ops.sum(rate * dy_centred_sum, axis=0), (channels,))
            d_beta = ops.reshape(ops.sum(dy_sum, axis=0), (channels,))
            return ops.cast(dx, x.dtype), d_gamma, d_beta

        # In half precision, product and offset cancel where a group's mean is large.
        y = x32 * spread(factor) + spread(offset)
        return ops.cast(y, x.dtype), gradient

    return normalise
