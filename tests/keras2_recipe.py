"""The network of the Keras 2 example in `tf_keras`, to write checkpoints with.

Keras 2 numbers layers by the way they are connected, so the connections here are those
of the example: in this order, one Keras layer for each of its layers.
"""

import math

import tensorflow as tf
import tf_keras
from tf_keras import layers


def initializer(scale):
    return tf_keras.initializers.VarianceScaling(scale, "fan_avg", "uniform")


class Sinusoid(layers.Layer):
    """Sines and cosines of the timesteps."""

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        half = dim // 2
        exponents = tf.range(half, dtype=tf.float32) / (half - 1)
        self.frequencies = tf.exp(-math.log(10000.0) * exponents)

    def call(self, t):
        angles = tf.cast(t, tf.float32)[:, tf.newaxis] * self.frequencies
        return tf.concat([tf.sin(angles), tf.cos(angles)], axis=1)


class Attention(layers.Layer):
    """Attention over all pixels, added to the normalised input."""

    def __init__(self, units, groups, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.norm = layers.GroupNormalization(groups)
        self.query = layers.Dense(units, kernel_initializer=initializer(1.0))
        self.key = layers.Dense(units, kernel_initializer=initializer(1.0))
        self.value = layers.Dense(units, kernel_initializer=initializer(1.0))
        self.proj = layers.Dense(units, kernel_initializer=initializer(1e-10))

    def call(self, features):
        normalised = self.norm(features)
        shape = tf.shape(features)
        query, key, value = (
            tf.reshape(dense(normalised), [shape[0], -1, self.units])
            for dense in (self.query, self.key, self.value)
        )
        scores = tf.matmul(query, key, transpose_b=True) / math.sqrt(self.units)
        attended = tf.reshape(tf.matmul(tf.nn.softmax(scores), value), shape)
        return normalised + self.proj(attended)


def residual_block(features, time, width, groups):
    shortcut = features
    if features.shape[-1] != width:
        shortcut = layers.Conv2D(width, 1, kernel_initializer=initializer(1.0))(
            features
        )
    time = tf_keras.activations.swish(time)
    time = layers.Dense(width, kernel_initializer=initializer(1.0))(time)
    x = layers.GroupNormalization(groups)(features)
    x = conv(tf_keras.activations.swish(x), width)
    x = layers.Add()([x, time[:, None, None, :]])
    x = layers.GroupNormalization(groups)(x)
    x = conv(tf_keras.activations.swish(x), width, scale=1e-10)
    return layers.Add()([x, shortcut])


def conv(x, width, strides=1, scale=1.0):
    return layers.Conv2D(
        width, 3, strides, padding="same", kernel_initializer=initializer(scale)
    )(x)


def build_keras2_unet(
    img_size,
    img_channels=3,
    first_conv_channels=64,
    channel_multiplier=(1, 2, 4, 8),
    has_attention=(False, False, True, True),
    num_res_blocks=2,
    norm_groups=8,
    interpolation="nearest",
):
    """The example's network; arguments as of `ddpm_keras.build_unet`."""
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    widths = [first_conv_channels * factor for factor in channel_multiplier]
    last = len(widths) - 1

    def block(x, level):
        x = residual_block(x, time, widths[level], norm_groups)
        if has_attention[level]:
            x = Attention(widths[level], norm_groups)(x)
        return x

    image_input = tf_keras.Input((height, width, img_channels), name="image_input")
    time_input = tf_keras.Input((), dtype=tf.int64, name="time_input")
    x = conv(image_input, first_conv_channels)
    time = Sinusoid(4 * first_conv_channels)(time_input)
    for activation in ("swish", None):
        time = layers.Dense(
            4 * first_conv_channels, activation, kernel_initializer=initializer(1.0)
        )(time)

    skips = [x]
    for level in range(last + 1):
        for _ in range(num_res_blocks):
            x = block(x, level)
            skips.append(x)
        if level != last:
            x = conv(x, widths[level], strides=2)
            skips.append(x)

    x = residual_block(x, time, widths[last], norm_groups)
    x = Attention(widths[last], norm_groups)(x)
    x = residual_block(x, time, widths[last], norm_groups)

    for level in range(last, -1, -1):
        for _ in range(num_res_blocks + 1):
            x = block(layers.Concatenate(axis=-1)([x, skips.pop()]), level)
        if level != 0:
            x = layers.UpSampling2D(2, interpolation=interpolation)(x)
            x = conv(x, widths[level])

    x = tf_keras.activations.swish(layers.GroupNormalization(norm_groups)(x))
    x = conv(x, img_channels, scale=1e-10)
    return tf_keras.Model([image_input, time_input], x, name="unet")


class Keras2DiffusionModel(tf_keras.Model):
    """The parts of the example's model; enough of it to be saved."""

    def __init__(self, network, ema_network):
        super().__init__()
        self.network = network
        if ema_network is not None:
            self.ema_network = ema_network


def make_optimizer(network, legacy):
    """An Adam that has taken a step. Its legacy form saves beside each weight."""
    adam = tf_keras.optimizers.legacy.Adam if legacy else tf_keras.optimizers.Adam
    optimizer = adam(0.0)
    weights = network.trainable_weights
    optimizer.apply_gradients([(tf.zeros_like(w), w) for w in weights])
    return optimizer
