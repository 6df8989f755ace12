"""The layers against plain NumPy in float64, and against Keras' own."""

import keras
import numpy as np
import pytest
from keras import ops

from ddpm_keras.errors import ArgumentError
from ddpm_keras.networks.layers import (
    AttentionBlock,
    DepthToSpace,
    LabelEmbedding,
    ResidualBlock,
    SpaceToDepth,
    TimeEmbedding,
)
from ddpm_keras.networks.normalization import GroupNormalization
from ddpm_keras.networks.upsampling import UpsampledConv


def to_float32(tensor):
    return ops.convert_to_numpy(ops.cast(tensor, "float32"))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def embed(t, dim):
    """The sinusoidal embedding, in float64."""
    half = dim // 2
    frequencies = np.exp(-np.arange(half) * np.log(10000) / (half - 1))
    angles = np.asarray(t)[:, None] * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def normalise(x, groups, gamma, beta, epsilon=1e-3):
    """Group normalisation, in float64."""
    x = np.asarray(x, "float64")
    grouped = x.reshape(*x.shape[:-1], groups, -1)
    mean = grouped.mean(axis=(1, 2, 4), keepdims=True)
    variance = grouped.var(axis=(1, 2, 4), keepdims=True)
    normalised = (grouped - mean) / np.sqrt(variance + epsilon)
    return normalised.reshape(x.shape) * gamma + beta


def attend(x, units, groups, weights):
    """The attention block as written: softmax(q k^T / sqrt(units)) v, plus GN(x)."""
    gamma, beta, *dense = (np.asarray(w, "float64") for w in weights)
    n = normalise(x, groups, gamma, beta)
    pairs = list(zip(dense[::2], dense[1::2], strict=True))
    q, k, v = (np.einsum("bhwc,cd->bhwd", n, w) + b for w, b in pairs[:3])
    scores = np.einsum("bhwc,bHWc->bhwHW", q, k) / np.sqrt(units)
    scores = np.exp(scores)
    scores /= scores.sum(axis=(3, 4), keepdims=True)
    attended = np.einsum("bhwHW,bHWc->bhwc", scores, v)
    w, b = pairs[3]
    return n + np.einsum("bhwc,cd->bhwd", attended, w) + b


# The angle of t = 999 is wrong by up to 1e-4 when frequencies are float32.
def test_time_embedding_is_the_formula():
    t = np.array([0, 1, 10, 500, 999])
    found = ops.convert_to_numpy(TimeEmbedding(32)(t))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, embed(t, 32), atol=2e-4)


def test_time_embedding_is_computed_in_float32_under_mixed_precision():
    """bfloat16 has 8 bits: t = 999 would be 1000, an angle off by a radian."""
    t = np.arange(1000)
    found = TimeEmbedding(32, dtype="mixed_bfloat16")(t)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    # Rounding the result, at most 1, costs 2^-9.
    np.testing.assert_allclose(to_float32(found), embed(t, 32), atol=2.2e-3)


@pytest.mark.parametrize("dim", [0, 2, 7])
def test_time_embedding_refuses_odd_and_small_sizes(dim):
    with pytest.raises(ArgumentError, match=f"Received: dim={dim}$"):
        TimeEmbedding(dim)


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_group_normalization_equals_keras(randomise, groups):
    x = normal(3, 5, 6, 8) * [1, 2, 3, 4, 5, 6, 7, 8] + 1
    ours = GroupNormalization(groups)
    theirs = keras.layers.GroupNormalization(groups, epsilon=1e-3)
    for layer in (ours, theirs):
        layer.build(x.shape)
        randomise(layer)
    assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours(x)), ops.convert_to_numpy(theirs(x)), atol=1e-5
    )


def gradients(layer, x, weighting):
    """Of the weighted sum of outputs, by the input and by the layer's weights."""
    x = ops.convert_to_tensor(x)
    if keras.backend.backend() == "jax":
        import jax

        def loss(x, weights):
            return ops.sum(layer.stateless_call(weights, [], x)[0] * weighting)

        dx, dw = jax.grad(loss, argnums=(0, 1))(x, [w.value for w in layer.weights])
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = ops.sum(layer(x) * weighting)
        dx, *dw = tape.gradient(loss, [x, *(w.value for w in layer.weights)])
    return [ops.convert_to_numpy(g) for g in (dx, *dw)]


@pytest.mark.parametrize(
    "options", [{}, dict(groups=1), dict(center=False), dict(scale=False)], ids=str
)
@pytest.mark.parametrize("offset, atol", [(1, 1e-5), (100, 2e-4)])
def test_gradient_of_group_normalization_equals_keras(randomise, options, offset, atol):
    """An input of 100 is held to 4e-6, and summed with weights over 90 pixels."""
    x = (offset + normal(3, 5, 6, 8) * [1, 2, 3, 4, 5, 6, 7, 8]).astype("float32")
    options = {"groups": 4, "epsilon": 1e-3, **options}
    found, expected = (
        gradients(randomise(layer), x, normal(*x.shape, seed=1))
        for layer in (
            GroupNormalization(**options),
            keras.layers.GroupNormalization(**options),
        )
        if layer.build(x.shape) is None
    )
    assert len(found) == 3 - ("center" in options) - ("scale" in options)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=atol)


def test_group_normalization_answers_in_the_layers_precision():
    x = normal(2, 4, 4, 8)
    found = GroupNormalization(4, dtype="mixed_bfloat16")(x)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    x = ops.cast(x, "bfloat16")
    found = GroupNormalization(4, dtype="float32")(x)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"


def test_group_normalization_refuses_what_it_does_not_do():
    with pytest.raises(ArgumentError, match="Received: axis=1$"):
        GroupNormalization(4, axis=1)
    with pytest.raises(ArgumentError, match=r"Received: input_shape=\(2, 16, 8\)$"):
        GroupNormalization(4).build((2, 16, 8))


def test_group_normalization_epsilon_is_the_recipes():
    # Of a variance of 1e-4, epsilon makes 1.1e-3.
    x = 0.01 * normal(2, 8, 8, 8)
    found = ops.convert_to_numpy(GroupNormalization(4)(x))
    np.testing.assert_allclose(found, normalise(x, 4, 1, 0, epsilon=1e-3), atol=1e-5)


def test_group_normalization_of_a_large_offset(randomise):
    """float32 holds 100 to 4e-6, the sum of products here to about three times that.

    A variance from squares, 10,001 - 10,000, would be wrong by 6e-4.
    """
    x = 100 + normal(2, 16, 16, 8)
    layer = GroupNormalization(4)
    layer.build(x.shape)
    gamma, beta = randomise(layer).get_weights()
    found = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(found, normalise(x, 4, gamma, beta), atol=1e-4)


def test_group_normalization_under_mixed_bfloat16(randomise):
    # A mean of 10 deviations: factor and offset in 8 bits would be wrong by 0.1.
    x = ops.cast(10 + normal(2, 16, 16, 8), "bfloat16")
    layer = GroupNormalization(4, dtype="mixed_bfloat16")
    layer.build(x.shape)
    gamma, beta = randomise(layer).get_weights()
    assert gamma.dtype == np.float32
    found = layer(x)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    expected = normalise(to_float32(x), 4, gamma, beta)
    # Only the result is rounded to 8 bits.
    np.testing.assert_allclose(to_float32(found), expected, rtol=2**-8, atol=1e-4)


def test_group_normalization_statistics_do_not_overflow_in_float16():
    """Squares of these values are beyond float16's largest, 65,504."""
    x = (1000 * normal(2, 16, 16, 8)).astype("float16")
    found = GroupNormalization(4, dtype="mixed_float16")(x)
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    np.testing.assert_allclose(to_float32(found), normalise(x, 4, 1, 0), atol=1e-2)


def test_attention_is_the_formula(randomise):
    x = normal(2, 3, 5, 8) + 1
    block = AttentionBlock(8, norm_groups=4)
    block.build(x.shape)
    randomise(block)
    expected = attend(x, 8, 4, block.get_weights())
    np.testing.assert_allclose(ops.convert_to_numpy(block(x)), expected, atol=2e-5)


def test_attention_is_added_to_the_normalised_input():
    """As in the example; the published weights only work so."""
    x = 5 + 3 * normal(2, 4, 4, 8)
    found = ops.convert_to_numpy(AttentionBlock(8, norm_groups=4)(x))
    # The last dense layer starts at almost zero.
    np.testing.assert_allclose(found, normalise(x, 4, 1, 0), atol=1e-3)
    assert np.abs(found - x).mean() > 1


def test_residual_block_starts_as_its_shortcut():
    x, time = normal(2, 4, 4, 8), normal(2, 16)
    found = ops.convert_to_numpy(ResidualBlock(8, norm_groups=4)(x, time))
    np.testing.assert_allclose(found, x, atol=1e-3)


def test_residual_block_has_a_shortcut_layer_only_where_the_width_changes():
    x, time = normal(2, 4, 4, 8), normal(2, 16)
    same, wider = ResidualBlock(8, norm_groups=4), ResidualBlock(16, norm_groups=4)
    assert same(x, time).shape == (2, 4, 4, 8)
    assert wider(x, time).shape == (2, 4, 4, 16)
    assert len(same.weights) == 10
    assert [tuple(w.shape) for w in wider.weights[10:]] == [(1, 1, 8, 16), (16,)]


def test_residual_block_uses_the_time_of_each_image(randomise):
    x, time = np.repeat(normal(1, 4, 4, 8), 2, axis=0), normal(2, 16)
    block = ResidualBlock(8, norm_groups=4)
    block(x, time)
    randomise(block)
    both = ops.convert_to_numpy(block(x, time))
    swapped = ops.convert_to_numpy(block(x, time[::-1]))
    assert np.abs(both[0] - both[1]).max() > 0.1
    np.testing.assert_allclose(both, swapped[::-1], atol=1e-5)


def test_residual_block_drops_before_the_second_convolution_and_only_in_training(
    randomise,
):
    x, time = normal(2, 8, 8, 8), normal(2, 16)
    block = ResidualBlock(8, norm_groups=4, dropout=0.5)
    block(x, time)
    randomise(block)
    # With a second convolution that changes nothing, what it is given can be seen.
    kernel, bias = block.conv_2.get_weights()
    kernel[:], bias[:] = 0, 0
    kernel[1, 1] = np.eye(8)
    block.conv_2.set_weights([kernel, bias])

    given = ops.convert_to_numpy(block(x, time, training=False)) - x
    np.testing.assert_array_equal(
        ops.convert_to_numpy(block(x, time, training=False)) - x, given
    )
    dropped = ops.convert_to_numpy(block(x, time, training=True)) - x
    kept = np.isclose(dropped, 2 * given, atol=1e-5)
    # 1,024 values: the share kept is 0.5 with a standard error of 0.016.
    assert 0.43 < kept.mean() < 0.57
    np.testing.assert_allclose(dropped[~kept], 0, atol=1e-5)


def test_label_embedding_has_a_row_for_each_class_and_one_for_none():
    layer = LabelEmbedding(3, dim=5)
    found = ops.convert_to_numpy(layer(np.array([2, -1, 0, 2, 1])))
    (table,) = layer.get_weights()
    assert table.shape == (4, 5)
    np.testing.assert_allclose(found, table[[2, 3, 0, 2, 1]], rtol=1e-6)
    assert 0.5 < table.std() < 1.5


@pytest.mark.parametrize("size", [2, 3])
def test_patches_are_blocks_of_pixels(size):
    """Channel `(row in the block, column in the block, channel)`, in this order."""
    x = normal(2, 2 * size, 5 * size, 3)
    blocks = x.reshape(2, 2, size, 5, size, 3).transpose(0, 1, 3, 2, 4, 5)
    found = SpaceToDepth(size)(x)
    np.testing.assert_array_equal(to_float32(found), blocks.reshape(2, 2, 5, -1))
    np.testing.assert_array_equal(to_float32(DepthToSpace(size)(found)), x)


def test_upsampled_conv_is_upsampling_and_a_convolution(randomise):
    x = normal(2, 3, 5, 4)  # not square, and odd, so that every border shows
    layer = UpsampledConv(6)
    assert layer.compute_output_shape(x.shape) == layer(x).shape == (2, 6, 10, 6)
    randomise(layer)
    conv = keras.layers.Conv2D(6, 3, padding="same")
    upsampled = keras.layers.UpSampling2D(2)(x)
    conv.build(upsampled.shape)
    assert [w.path.split("/")[1:] for w in layer.weights] == [
        w.path.split("/")[1:] for w in conv.weights
    ]
    conv.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        to_float32(layer(x)), to_float32(conv(upsampled)), atol=1e-5
    )


@pytest.mark.parametrize(
    "cls, arguments",
    [
        (UpsampledConv, dict(filters=4)),
        (LabelEmbedding, dict(num_classes=501, dim=4)),
        (SpaceToDepth, dict(size=2)),
        (DepthToSpace, dict(size=2)),
        (TimeEmbedding, dict(dim=12)),
        (GroupNormalization, dict(groups=2, epsilon=0.1)),
        (AttentionBlock, dict(units=8, norm_groups=2)),
        (
            ResidualBlock,
            dict(width=16, norm_groups=2, dropout=0.3, activation="relu"),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
class TestSerialization:
    def inputs(self, layer, dtype="float32"):
        if isinstance(layer, TimeEmbedding | LabelEmbedding):
            return (np.array([3, 500]),)
        inputs = [ops.cast(normal(2, 4, 4, 8), dtype)]
        if isinstance(layer, ResidualBlock):
            inputs.append(ops.cast(normal(2, 16), dtype))
        return inputs

    def copy(self, layer, inputs):
        copy = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(layer)
        )
        copy(*inputs)
        copy.set_weights(layer.get_weights())
        return copy

    def test_copy_computes_the_same(self, cls, arguments, randomise):
        layer = cls(**arguments, name="some_name")
        inputs = self.inputs(layer)
        layer(*inputs)
        randomise(layer)
        copy = self.copy(layer, inputs)
        assert type(copy) is cls
        assert copy.get_config().items() >= arguments.items()
        assert copy.name == "some_name"
        np.testing.assert_array_equal(
            to_float32(copy(*inputs)), to_float32(layer(*inputs))
        )

    def test_copy_keeps_its_precision_where_another_one_is_set(
        self, cls, arguments, randomise, set_policy
    ):
        set_policy("mixed_bfloat16")
        layer = cls(**arguments)
        inputs = self.inputs(layer, "bfloat16")
        layer(*inputs)
        randomise(layer)
        expected = layer(*inputs)
        set_policy("float32")
        found = self.copy(layer, inputs)(*inputs)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(to_float32(found), to_float32(expected))
