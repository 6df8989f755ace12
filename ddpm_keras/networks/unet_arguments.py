"""What the U-Net asks of its arguments, in plain Python.

Kept apart from the network so that a configuration can be refused before Keras is
imported, in the words in which `build_unet` refuses it.
"""

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

from ddpm_keras.errors import ArgumentError

INTERPOLATIONS = ("nearest", "bilinear")


def height_and_width(img_size: int | Sequence[int]) -> tuple[int, int]:
    """Return the two sides of an image size: a pair's own, or a number twice."""
    pair = img_size if isinstance(img_size, Sequence) else (img_size, img_size)
    return tuple(pair)


def expected_weights(
    first_conv_channels: int,
    channel_multiplier: Sequence[int],
    num_res_blocks: int,
    **others: Any,
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield path and shape of a kernel of each block, level by level.

    One by one: a configuration may ask for any number of them.
    """
    for level, factor in enumerate(channel_multiplier):
        width = first_conv_channels * factor
        for way, blocks in (("down", num_res_blocks), ("up", num_res_blocks + 1)):
            for i in range(blocks):
                path = f"{way}_{level}_{i}_residual/conv_2/kernel"
                yield path, (3, 3, width, width)


def check_unet(
    img_size: int | Sequence[int],
    img_channels: int,
    first_conv_channels: int,
    channel_multiplier: Sequence[int],
    has_attention: Sequence[bool],
    num_res_blocks: int,
    norm_groups: int,
    dropout: float,
    interpolation: str,
    activation: str,
) -> None:
    """Raise `ArgumentError` where these arguments of `build_unet` make no network.

    Which activations there are, only Keras knows.
    """
    _check_counts(
        img_channels=img_channels,
        first_conv_channels=first_conv_channels,
        num_res_blocks=num_res_blocks,
        norm_groups=norm_groups,
    )
    _check_levels(channel_multiplier, has_attention)
    _check_size(img_size, channel_multiplier)
    # The first block normalises the stem's output, so the stem's width has to do
    # even where no level is that narrow; the others are multiples of it.
    if first_conv_channels % norm_groups:
        raise ArgumentError(
            "norm_groups must divide first_conv_channels, the width of the stem, and "
            "so every level's.",
            norm_groups=norm_groups,
            first_conv_channels=first_conv_channels,
        )
    if not 0 <= dropout < 1:
        raise ArgumentError("dropout must be 0 or more and below 1.", dropout=dropout)
    if interpolation not in INTERPOLATIONS:
        raise ArgumentError(
            f"interpolation must be {' or '.join(INTERPOLATIONS)}.",
            interpolation=interpolation,
        )


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if not _is_positive_integer(value):
            raise ArgumentError(
                f"{name} must be an integer, 1 or more.", **{name: value}
            )


def _check_levels(
    channel_multiplier: Sequence[int], has_attention: Sequence[bool]
) -> None:
    levels = len(channel_multiplier)
    if levels == 0 or levels != len(has_attention):
        raise ArgumentError(
            "channel_multiplier and has_attention must have one entry for each "
            f"level, but have {levels} and {len(has_attention)}.",
            channel_multiplier=channel_multiplier,
            has_attention=has_attention,
        )
    if not all(map(_is_positive_integer, channel_multiplier)):
        raise ArgumentError(
            "channel_multiplier must hold integers, 1 or more.",
            channel_multiplier=channel_multiplier,
        )


def _check_size(
    img_size: int | Sequence[int], channel_multiplier: Sequence[int]
) -> None:
    sizes = height_and_width(img_size)
    if len(sizes) != 2 or not all(map(_is_positive_integer, sizes)):
        raise ArgumentError(
            "img_size must be an integer, 1 or more, or a pair (height, width) of "
            "them.",
            img_size=img_size,
        )
    # Every level but the last halves the image, and the way up doubles it again.
    levels = len(channel_multiplier)
    factor = 2 ** (levels - 1)
    for side, size in zip(("height", "width"), sizes, strict=True):
        if size % factor:
            below = size // factor * factor
            nearest = f"{below} or {below + factor}" if below else f"{factor}"
            raise ArgumentError(
                f"img_size must be a multiple of {factor} for {levels} levels; the "
                f"valid {side} nearest to {size} is {nearest}.",
                img_size=img_size,
                channel_multiplier=channel_multiplier,
            )


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, Integral) and value >= 1
