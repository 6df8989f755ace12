"""The noise-predicting U-Net of DDPM, as a functional Keras model."""

import warnings

import keras
from keras import layers

from ddpm_keras.backend import has_fused_attention
from ddpm_keras.errors import renamed
from ddpm_keras.networks.layers import (
    AttentionBlock,
    DepthToSpace,
    LabelEmbedding,
    ResidualBlock,
    SpaceToDepth,
    TimeEmbedding,
    check_activation,
    conv,
    dense,
    kernel_init,
)
from ddpm_keras.networks.normalization import GroupNormalization
from ddpm_keras.networks.unet_arguments import (
    AUGMENT_DIM,
    check_unet,
    height_and_width,
)
from ddpm_keras.networks.unet_size import unet_size
from ddpm_keras.networks.upsampling import UpsampledConv

# What training keeps of attention's float32 weights: them, their scores, gradients.
ATTENTION_COPIES = 6
LARGE_ATTENTION = 2.5e8  # bytes for an image


@renamed(
    activation_fn="is called `activation` here: the name of a Keras activation",
    widths="is called `channel_multiplier` here: multiples of `first_conv_channels`",
)
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
    patch_size=1,
    num_classes=None,
    augment=False,
):
    """Build the U-Net that predicts the noise in an image.

    With the defaults and `img_size=64` this is the network of the Keras example, with
    63,200,387 parameters in 382 weights.

    Args:
        img_size: Height and width in pixels, multiples of
            `patch_size * 2 ** (levels - 1)`: an int, or `(height, width)`.
        img_channels: Channels of the images.
        first_conv_channels: Channels of the stem, the first convolution.
        channel_multiplier: One factor per level: its width in multiples of the stem's.
            Each further level has half the resolution.
        has_attention: One bool per level: whether self-attention follows its blocks.
        num_res_blocks: Residual blocks per level on the way down; one more on the
            way up.
        norm_groups: Groups of the group normalisations; divides every width.
        dropout: Dropout rate in each residual block, in [0, 1).
        interpolation: `"nearest"` or `"bilinear"` upsampling.
        activation: Name of a Keras activation.
        patch_size: Side of the blocks of pixels that become the channels of one pixel
            before the first convolution and after the last one. The first level then
            works on an image that much smaller.
        num_classes: Number of classes for an input of labels. `None`: no such input.
        augment: Whether to take a vector that describes how an image was augmented.

    Returns:
        A `keras.Model` over `[image_input, time_input]`, noisy images of shape
        `(batch, height, width, img_channels)` and integer timesteps of shape
        `(batch,)`; then `label_input`, integer labels of shape `(batch,)` with -1 for
        "no label", and `augment_input` of shape `(batch, 11)`, see `augmentation.py`,
        where asked for. It returns its prediction in the images' shape, float32: the
        noise, or what else the diffusion's `prediction_type` says.

    Raises:
        ArgumentError: When arguments are invalid or do not fit together.

    Reference:
        - [Ho et al., 2020](https://arxiv.org/abs/2006.11239), appendix B
        - [Hoogeboom et al., 2023](https://arxiv.org/abs/2301.11093), patches
        - [Karras et al., 2022](https://arxiv.org/abs/2206.00364), augmentation
    """
    arguments = {
        "img_size": img_size,
        "img_channels": img_channels,
        "first_conv_channels": first_conv_channels,
        "channel_multiplier": channel_multiplier,
        "has_attention": has_attention,
        "num_res_blocks": num_res_blocks,
        "norm_groups": norm_groups,
        "dropout": dropout,
        "interpolation": interpolation,
        "activation": activation,
        "patch_size": patch_size,
        "num_classes": num_classes,
        "augment": augment,
    }
    check_unet(**arguments)
    check_activation(activation)
    _warn_of_attention(unet_size(**arguments).attended)
    height, width = height_and_width(img_size)
    widths = [first_conv_channels * factor for factor in channel_multiplier]
    levels = list(enumerate(zip(widths, has_attention, strict=True)))

    image_input = keras.Input((height, width, img_channels), name="image_input")
    inputs = [image_input, keras.Input((), dtype="int32", name="time_input")]
    embedding = _embed(
        inputs, 4 * first_conv_channels, activation, num_classes, augment
    )

    def block(x, channels, attend, name):
        x = ResidualBlock(
            channels, norm_groups, dropout, activation, name=f"{name}_residual"
        )(x, embedding)
        if attend:
            x = AttentionBlock(channels, norm_groups, name=f"{name}_attention")(x)
        return x

    x = image_input
    if patch_size > 1:
        x = SpaceToDepth(patch_size, name="patches")(x)
    x = conv(first_conv_channels, 3, name="stem")(x)
    skips = _go_down(x, levels, num_res_blocks, block)
    x = block(skips[-1], widths[-1], True, "middle_0")
    x = block(x, widths[-1], False, "middle_1")
    x = _go_up(x, skips, levels, num_res_blocks + 1, block, interpolation)

    x = GroupNormalization(norm_groups, name="head_norm")(x)
    x = layers.Activation(activation, name="head_activation")(x)
    # The head is float32 under every precision policy: the loss is computed on it.
    head = conv(img_channels * patch_size**2, 3, 0.0, dtype="float32", name="head")
    x = head(x)
    if patch_size > 1:
        x = DepthToSpace(patch_size, dtype="float32", name="pixels")(x)
    return keras.Model(inputs, x, name="unet")


def _warn_of_attention(pixels):
    """Warn when the attention weights of one image are large: all pixels squared."""
    needed = ATTENTION_COPIES * 4 * pixels**2
    if needed >= LARGE_ATTENTION and not has_fused_attention():
        warnings.warn(
            f"Attention among {pixels:,} pixels takes about {needed / 1e9:.1f} GB for "
            "each image of a training batch. The middle block attends at the lowest "
            "resolution: give `channel_multiplier` more levels, or use `patch_size`.",
            stacklevel=4,
        )


def _embed(inputs, dim, activation, num_classes, augment):
    """Return the embedding of all conditions; append the inputs of further ones."""
    x = TimeEmbedding(dim, name="time_embedding")(inputs[1])
    x = dense(dim, activation=activation, name="time_dense_1")(x)
    x = dense(dim, name="time_dense_2")(x)
    if num_classes is not None:
        inputs.append(keras.Input((), dtype="int32", name="label_input"))
        x = x + LabelEmbedding(num_classes, dim, name="label_embedding")(inputs[-1])
    if augment:
        inputs.append(keras.Input((AUGMENT_DIM,), name="augment_input"))
        # Without a bias, so that zeros change nothing.
        x = x + dense(dim, use_bias=False, name="augment_dense")(inputs[-1])
    return x


def _go_down(x, levels, num_blocks, block):
    """Return the stem's output and those of every block and downsampling."""
    skips = [x]
    for level, (width, attend) in levels:
        for i in range(num_blocks):
            skips.append(block(skips[-1], width, attend, f"down_{level}_{i}"))
        if level != len(levels) - 1:
            downsample = conv(width, 3, strides=2, name=f"down_{level}_downsample")
            skips.append(downsample(skips[-1]))
    return skips


def _go_up(x, skips, levels, num_blocks, block, interpolation):
    """Return the output of the first level; every skip connection is used."""
    for level, (width, attend) in reversed(levels):
        for i in range(num_blocks):
            x = layers.Concatenate(name=f"up_{level}_{i}_skip")([x, skips.pop()])
            x = block(x, width, attend, f"up_{level}_{i}")
        if level != 0:
            x = _upsample(x, width, interpolation, f"up_{level}")
    assert not skips, "every skip connection must be used"
    return x


def _upsample(x, width, interpolation, name):
    """Double height and width, then convolve."""
    if interpolation == "nearest":
        upsampled_conv = UpsampledConv(
            width, kernel_initializer=kernel_init(), name=f"{name}_conv"
        )
        return upsampled_conv(x)
    upsample = layers.UpSampling2D(
        2, interpolation=interpolation, name=f"{name}_upsample"
    )
    return conv(width, 3, name=f"{name}_conv")(upsample(x))
