"""The U-Net's building blocks as Keras layers.

Weights are created in the order of the Keras 2 example, so that its checkpoints and
`network.weights` correspond one to one.
"""

import math

import keras
from keras import layers, ops

from ddpm_keras.backend import has_fused_attention
from ddpm_keras.errors import require
from ddpm_keras.networks.normalization import GroupNormalization


def kernel_init(scale=1.0):
    """Variance scaling (fan_avg, uniform); scale 0 means almost zero, 1e-10."""
    return keras.initializers.VarianceScaling(
        max(scale, 1e-10), mode="fan_avg", distribution="uniform"
    )


def dense(units, scale=1.0, **kwargs):
    """A dense layer whose kernel is initialised with `kernel_init(scale)`."""
    return layers.Dense(units, kernel_initializer=kernel_init(scale), **kwargs)


def conv(channels, size, scale=1.0, **kwargs):
    """A padded `size` x `size` convolution, initialised as `dense`."""
    init = kernel_init(scale)
    return layers.Conv2D(
        channels, size, padding="same", kernel_initializer=init, **kwargs
    )


def check_activation(name):
    """Raise an `ArgumentError` unless this is a Keras activation of single numbers.

    Keras also has some that need more arguments, and some that halve the channels.
    """
    try:
        shape = tuple(keras.activations.get(name)(ops.zeros((1, 2))).shape)
    except (ValueError, TypeError, KeyError):
        shape = None
    message = "`activation` must be a Keras activation that keeps shapes, as swish."
    require(shape == (1, 2), message, activation=name)


@keras.saving.register_keras_serializable("ddpm_keras")
class TimeEmbedding(layers.Layer):
    """Sinusoidal embedding of integer timesteps.

    Sines, then cosines, at frequencies from 1 down to 1/10000. Computed in float32
    under every precision policy, since neighbouring timesteps are equal in bfloat16.

    Args:
        dim: Size of the embedding; even, 4 or more.

    Call arguments:
        t: Integer tensor of shape `(batch,)`.

    Returns:
        A tensor of shape `(batch, dim)`.

    Raises:
        ArgumentError: When `dim` is odd or below 4.

    Reference:
        - [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5
    """

    def __init__(self, dim, **kwargs):
        super().__init__(**kwargs)
        message = "`dim` must be an even number, 4 or more."
        require(dim >= 4 and dim % 2 == 0, message, dim=dim)
        self.dim = dim

    def call(self, t):
        half = self.dim // 2
        rate = math.log(10000.0) / (half - 1)
        frequencies = ops.exp(-rate * ops.arange(half, dtype="float32"))
        angles = ops.cast(t, "float32")[:, None] * frequencies[None, :]
        embedding = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
        return ops.cast(embedding, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape, self.dim)

    def get_config(self):
        return {**super().get_config(), "dim": self.dim}


@keras.saving.register_keras_serializable("ddpm_keras")
class LabelEmbedding(layers.Layer):
    """A learnt vector for each class, and one for "no label".

    Args:
        num_classes: Number of classes.
        dim: Size of the vectors.

    Call arguments:
        labels: Integer tensor of shape `(batch,)`, 0 to `num_classes - 1`; -1 means
            "no label". `DiffusionModel.fit` refuses others where it can look at them.

    Returns:
        A tensor of shape `(batch, dim)`.

    Reference:
        - [Ho and Salimans, 2022](https://arxiv.org/abs/2207.12598), section 3.1
    """

    def __init__(self, num_classes, dim, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.dim = dim

    def build(self, labels_shape):
        # The last row is that of "no label".
        self.table = self.add_weight(
            name="table",
            shape=(self.num_classes + 1, self.dim),
            # Larger than the time embedding at first: classes come up rarely.
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )

    def call(self, labels):
        rows = ops.where(labels < 0, self.num_classes, labels)
        # Not `ops.take`, whose sparse gradients optimizers treat in other ways.
        chosen = ops.one_hot(rows, self.num_classes + 1, dtype=self.compute_dtype)
        return ops.matmul(chosen, ops.cast(self.table, self.compute_dtype))

    def compute_output_shape(self, labels_shape):
        return (*labels_shape, self.dim)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "dim": self.dim,
        }


class _Patches(layers.Layer):
    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def get_config(self):
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("ddpm_keras")
class SpaceToDepth(_Patches):
    """Makes each block of `size` times `size` pixels one pixel of more channels.

    From `(batch, height, width, channels)` to `(batch, height / size, width / size,
    size * size * channels)`.
    """

    def call(self, inputs):
        return ops.space_to_depth(inputs, self.size)


@keras.saving.register_keras_serializable("ddpm_keras")
class DepthToSpace(_Patches):
    """The inverse of `SpaceToDepth`."""

    def call(self, inputs):
        return ops.depth_to_space(inputs, self.size)


@keras.saving.register_keras_serializable("ddpm_keras")
class AttentionBlock(layers.Layer):
    """Single-head self-attention over all pixels.

    The result is added to the *normalised* input, not to the input itself, as in the
    Keras example; its weights work no other way.

    Args:
        units: Width of the features; equal to the input's channels.
        norm_groups: Groups of the normalisation; divides `units`.

    Call arguments:
        features: Tensor of shape `(batch, height, width, units)`.

    Returns:
        A tensor of the same shape.
    """

    def __init__(self, units, norm_groups=8, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.norm_groups = norm_groups
        policy = self.dtype_policy
        self.norm = GroupNormalization(norm_groups, name="norm", dtype=policy)
        self.query = dense(units, name="query", dtype=policy)
        self.key = dense(units, name="key", dtype=policy)
        self.value = dense(units, name="value", dtype=policy)
        self.proj = dense(units, scale=0.0, name="proj", dtype=policy)

    def build(self, features_shape):
        for layer in (self.norm, self.query, self.key, self.value, self.proj):
            layer.build(features_shape)

    def call(self, features):
        _, height, width, channels = features.shape
        normalised = self.norm(features)
        pixels = ops.reshape(normalised, (-1, height * width, channels))
        query, key, value = self.query(pixels), self.key(pixels), self.value(pixels)
        attended = self.proj(_attend(query, key, value))
        return normalised + ops.reshape(attended, (-1, height, width, channels))

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "norm_groups": self.norm_groups,
        }


def _attend(query, key, value):
    """Return the values' means, weighted by attention: `(batch, pixels, units)`."""
    scale = value.shape[-1] ** -0.5
    if has_fused_attention():
        query, key, value = (x[:, :, None] for x in (query, key, value))  # one head
        return ops.dot_product_attention(query, key, value, scale=scale)[:, :, 0]
    scores = ops.matmul(query, ops.transpose(key, (0, 2, 1)))
    # In half precision the softmax's sum over all pixels overflows or loses digits.
    scores = ops.cast(scores, "float32") * scale
    weights = ops.cast(ops.softmax(scores, axis=-1), value.dtype)
    return ops.matmul(weights, value)


@keras.saving.register_keras_serializable("ddpm_keras")
class ResidualBlock(layers.Layer):
    """Two convolutions with a shortcut; the time embedding is added between them.

    Args:
        width: Number of output channels.
        norm_groups: Groups of the normalisations; divides input channels and `width`.
        dropout: Share of activations dropped before the second convolution.
        activation: Activation function, by Keras name.

    Call arguments:
        features: Tensor of shape `(batch, height, width, channels)`.
        time_embedding: Tensor of shape `(batch, dim)`.

    Returns:
        A tensor of shape `(batch, height, width, self.width)`.
    """

    def __init__(self, width, norm_groups=8, dropout=0.0, activation="swish", **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.norm_groups = norm_groups
        self.dropout = dropout
        self.activation = keras.activations.get(activation)
        policy = self.dtype_policy
        self.norm_1 = GroupNormalization(norm_groups, name="norm_1", dtype=policy)
        self.time_dense = dense(width, name="time_dense", dtype=policy)
        self.conv_1 = conv(width, 3, name="conv_1", dtype=policy)
        self.norm_2 = GroupNormalization(norm_groups, name="norm_2", dtype=policy)
        self.drop = None
        if dropout:
            self.drop = layers.Dropout(dropout, name="drop", dtype=policy)
        self.conv_2 = conv(width, 3, scale=0.0, name="conv_2", dtype=policy)
        self.shortcut = None

    def build(self, features_shape, time_embedding_shape):
        hidden_shape = (*features_shape[:-1], self.width)
        self.norm_1.build(features_shape)
        self.time_dense.build(time_embedding_shape)
        self.conv_1.build(features_shape)
        self.norm_2.build(hidden_shape)
        self.conv_2.build(hidden_shape)
        if features_shape[-1] != self.width:
            policy = self.dtype_policy
            self.shortcut = conv(self.width, 1, name="shortcut", dtype=policy)
            self.shortcut.build(features_shape)

    def call(self, features, time_embedding, training=None):
        hidden = self.conv_1(self.activation(self.norm_1(features)))
        time = self.time_dense(self.activation(time_embedding))
        hidden = hidden + time[:, None, None, :]
        hidden = self.activation(self.norm_2(hidden))
        if self.drop is not None:
            hidden = self.drop(hidden, training=training)
        hidden = self.conv_2(hidden)
        return hidden + (self.shortcut(features) if self.shortcut else features)

    def compute_output_shape(self, features_shape, time_embedding_shape):
        return (*features_shape[:-1], self.width)

    def get_config(self):
        return {
            **super().get_config(),
            "width": self.width,
            "norm_groups": self.norm_groups,
            "dropout": self.dropout,
            "activation": keras.activations.serialize(self.activation),
        }
