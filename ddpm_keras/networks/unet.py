"""The noise-predicting U-Net of DDPM, as a functional Keras model."""

import keras
from keras import layers

from ddpm_keras.networks.layers import (
    AttentionBlock,
    GroupNormalization,
    ResidualBlock,
    TimeEmbedding,
    kernel_init,
)
from ddpm_keras.networks.unet_arguments import check_unet, height_and_width


def build_unet(
    img_size,
    img_channels=3,
    first_conv_channels=64,
    channel_multiplier=(1, 2, 4, 8),
    has_attention=(False, False, True, True),
    num_res_blocks=2,
    norm_groups=8,
    dropout=0.0,
    interpolation="nearest",
    activation="swish",
):
    """Build the U-Net that predicts the noise in an image.

    With the defaults and `img_size=64` this is the network of the Keras example:
    63,200,387 parameters in 382 weights.

    Args:
        img_size: Height and width in pixels: an int, or `(height, width)`. Both must
            be multiples of `2 ** (levels - 1)`.
        img_channels: Channels of the images.
        first_conv_channels: Width of the first level before its multiplier.
        channel_multiplier: One factor per level; a level is
            `first_conv_channels * factor` channels wide and each further level works
            at half the resolution. Neighbouring levels may have equal widths.
        has_attention: One bool per level: whether self-attention follows its blocks.
        num_res_blocks: Residual blocks per level on the way down; one more on the
            way up.
        norm_groups: Groups of the group normalisations; divides every width.
        dropout: Share of activations dropped in each residual block.
        interpolation: `"nearest"` or `"bilinear"` upsampling.
        activation: Activation function, by Keras name.

    Returns:
        A `keras.Model` over `[image_input, time_input]`: noisy images of shape
        `(batch, height, width, img_channels)` and integer timesteps of shape
        `(batch,)`; it returns the predicted noise in the images' shape, float32.

    Raises:
        ValueError: When sizes, groups or list lengths do not fit together.

    Reference:
        - [Ho et al., 2020](https://arxiv.org/abs/2006.11239), appendix B
    """
    check_unet(
        img_size=img_size,
        img_channels=img_channels,
        first_conv_channels=first_conv_channels,
        channel_multiplier=channel_multiplier,
        has_attention=has_attention,
        num_res_blocks=num_res_blocks,
        norm_groups=norm_groups,
        dropout=dropout,
        interpolation=interpolation,
        activation=activation,
    )
    height, width = height_and_width(img_size)
    widths = [first_conv_channels * factor for factor in channel_multiplier]
    num_levels = len(widths)
    time_dim = 4 * first_conv_channels

    def conv(channels, **kwargs):
        kwargs.setdefault("kernel_initializer", kernel_init())
        return layers.Conv2D(channels, 3, padding="same", **kwargs)

    def block(x, channels, attend, name):
        x = ResidualBlock(
            channels, norm_groups, dropout, activation, name=f"{name}_residual"
        )(x, time_embedding)
        if attend:
            x = AttentionBlock(channels, norm_groups, name=f"{name}_attention")(x)
        return x

    image_input = keras.Input((height, width, img_channels), name="image_input")
    time_input = keras.Input((), dtype="int32", name="time_input")

    time_embedding = TimeEmbedding(time_dim, name="time_embedding")(time_input)
    for name, act in (("time_dense_1", activation), ("time_dense_2", None)):
        time_embedding = layers.Dense(
            time_dim, activation=act, kernel_initializer=kernel_init(), name=name
        )(time_embedding)

    x = conv(first_conv_channels, name="stem")(image_input)
    skips = [x]

    for level in range(num_levels):
        for i in range(num_res_blocks):
            x = block(x, widths[level], has_attention[level], f"down_{level}_{i}")
            skips.append(x)
        if level != num_levels - 1:
            x = conv(widths[level], strides=2, name=f"down_{level}_downsample")(x)
            skips.append(x)

    x = block(x, widths[-1], True, "middle_0")
    x = block(x, widths[-1], False, "middle_1")

    for level in reversed(range(num_levels)):
        for i in range(num_res_blocks + 1):
            x = layers.Concatenate(name=f"up_{level}_{i}_skip")([x, skips.pop()])
            x = block(x, widths[level], has_attention[level], f"up_{level}_{i}")
        if level != 0:
            x = layers.UpSampling2D(
                2, interpolation=interpolation, name=f"up_{level}_upsample"
            )(x)
            x = conv(widths[level], name=f"up_{level}_conv")(x)
    assert not skips, "every skip connection must be used"

    x = GroupNormalization(norm_groups, name="head_norm")(x)
    x = layers.Activation(activation, name="head_activation")(x)
    # The head is float32 under every precision policy: the loss is computed on it.
    pred_noise = conv(
        img_channels, kernel_initializer=kernel_init(0.0), dtype="float32", name="head"
    )(x)
    return keras.Model([image_input, time_input], pred_noise, name="unet")
