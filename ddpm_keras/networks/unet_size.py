"""How large a U-Net is, by its arguments alone: nothing is built."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

from ddpm_keras.networks.unet_arguments import AUGMENT_DIM, height_and_width


class Size(NamedTuple):
    """The size of a network.

    Attributes:
        parameters: Number of parameters.
        activations: Numbers that its blocks put out for one image, all together.
        attended: Largest number of pixels that attend to each other; the attention's
            weights are the square of it.
    """

    parameters: int
    activations: int
    attended: int


def unet_size(
    img_size: int | Sequence[int],
    img_channels: int,
    first_conv_channels: int,
    channel_multiplier: Sequence[int],
    has_attention: Sequence[bool],
    num_res_blocks: int,
    patch_size: int = 1,
    num_classes: int | None = None,
    augment: float = 0,
    **others: Any,
) -> Size:
    """Return the size of `build_unet` with these arguments, which must be valid.

    The blocks of a level are counted, not listed: there may be any number of them.
    """
    stem, count, dim = first_conv_channels, num_res_blocks, 4 * first_conv_channels
    widths = [stem * factor for factor in channel_multiplier]
    pixels = [
        prod(side // patch_size for side in height_and_width(img_size)) // 4**level
        for level in range(len(widths))
    ]
    channels = img_channels * patch_size**2
    parameters = 2 * _dense(dim, dim) + _conv(channels, stem)
    if num_classes is not None:
        parameters += (num_classes + 1) * dim
    parameters += AUGMENT_DIM * dim if augment else 0
    last = widths[-1]
    parameters += 2 * _block(last, last, dim) + _attention(last)
    activations = 2 * pixels[-1] * last
    for level, (width, attends) in enumerate(zip(widths, has_attention, strict=True)):
        above = widths[level - 1] if level else stem
        below = widths[level + 1] if level + 1 < len(widths) else last
        parameters += _block(above, width, dim)  # down, the first of the level
        parameters += (count - 1) * _block(width, width, dim)
        parameters += _block(below + width, width, dim)  # up, with its skips
        parameters += (count - 1) * _block(2 * width, width, dim)
        parameters += _block(width + above, width, dim)
        parameters += (2 * count + 1) * _attention(width) if attends else 0
        parameters += _conv(width, width) if level + 1 < len(widths) else 0
        parameters += _conv(width, width) if level else 0
        activations += (2 * count + 1) * pixels[level] * width
    parameters += 2 * widths[0] + _conv(widths[0], channels)
    attending = [n for n, attends in zip(pixels, has_attention, strict=True) if attends]
    return Size(parameters, activations, max([pixels[-1], *attending]))


def _dense(inputs: int, units: int) -> int:
    return inputs * units + units


def _conv(inputs: int, channels: int) -> int:
    return 9 * inputs * channels + channels


def _block(inputs: int, width: int, dim: int) -> int:
    """Count the parameters of a `ResidualBlock`."""
    shortcut = _dense(inputs, width) if inputs != width else 0
    norms = 2 * inputs + 2 * width
    convolutions = _conv(inputs, width) + _conv(width, width)
    return norms + convolutions + _dense(dim, width) + shortcut


def _attention(width: int) -> int:
    """Count the parameters of an `AttentionBlock`."""
    return 2 * width + 4 * _dense(width, width)
