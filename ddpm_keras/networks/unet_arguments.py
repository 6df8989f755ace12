"""Checks of the U-Net's arguments, without Keras.

A configuration is checked before Keras is imported, and `build_unet` raises the same
errors.
"""

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

from ddpm_keras.errors import require

INTERPOLATIONS = ("nearest", "bilinear")
# Length of the vector that describes an augmentation: flips 2, quarter turns 2, scale
# 1, rotation 2, anisotropy 2, shift 2.
AUGMENT_DIM = 11


def height_and_width(img_size: int | Sequence[int]) -> tuple[int, int]:
    """Return the sides of an image size: a pair, or one number for both."""
    pair = img_size if isinstance(img_size, Sequence) else (img_size, img_size)
    return tuple(pair)


def expected_weights(
    first_conv_channels: int,
    channel_multiplier: Sequence[int],
    num_res_blocks: int,
    **others: Any,
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield path and shape of one kernel of each block, level by level.

    A generator, since a configuration may ask for any number of blocks.
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
    patch_size: int = 1,
    num_classes: int | None = None,
    augment: float = 0,
) -> None:
    """Raise `ArgumentError` when arguments of `build_unet` are invalid.

    Only Keras can check `activation`.
    """
    for name, count in (
        ("img_channels", img_channels),
        ("first_conv_channels", first_conv_channels),
        ("num_res_blocks", num_res_blocks),
        ("norm_groups", norm_groups),
        ("patch_size", patch_size),
        ("num_classes", 1 if num_classes is None else num_classes),
    ):
        message = f"{name} must be an integer, 1 or more."
        require(_is_positive_integer(count), message, **{name: count})
    _check_levels(channel_multiplier, has_attention)
    _check_size(img_size, channel_multiplier, patch_size)
    # The first block normalises the stem's output, so its width counts even where no
    # level is that narrow.
    require(
        first_conv_channels % norm_groups == 0,
        "norm_groups must divide first_conv_channels, the width of the stem, and so "
        "every level's.",
        norm_groups=norm_groups,
        first_conv_channels=first_conv_channels,
    )
    require(0 <= dropout < 1, "dropout must be 0 or more and below 1.", dropout=dropout)
    require(
        interpolation in INTERPOLATIONS,
        f"interpolation must be {' or '.join(INTERPOLATIONS)}.",
        interpolation=interpolation,
    )


def _check_levels(
    channel_multiplier: Sequence[int], has_attention: Sequence[bool]
) -> None:
    levels = len(channel_multiplier)
    require(
        levels == len(has_attention) > 0,
        "channel_multiplier and has_attention must have one entry for each level, but "
        f"have {levels} and {len(has_attention)}.",
        channel_multiplier=channel_multiplier,
        has_attention=has_attention,
    )
    require(
        all(map(_is_positive_integer, channel_multiplier)),
        "channel_multiplier must hold integers, 1 or more.",
        channel_multiplier=channel_multiplier,
    )


def _check_size(
    img_size: int | Sequence[int], channel_multiplier: Sequence[int], patch_size: int
) -> None:
    sizes = height_and_width(img_size)
    require(
        len(sizes) == 2 and all(map(_is_positive_integer, sizes)),
        "img_size must be an integer, 1 or more, or a pair (height, width) of them.",
        img_size=img_size,
    )
    # Every level but the last halves the patches, and the way up doubles them again.
    levels = len(channel_multiplier)
    factor = patch_size * 2 ** (levels - 1)
    patches, given = (
        "",
        {"img_size": img_size, "channel_multiplier": channel_multiplier},
    )
    if patch_size > 1:
        patches = f" of patches of {patch_size}x{patch_size}"
        given["patch_size"] = patch_size
    for side, size in zip(("height", "width"), sizes, strict=True):
        below = size // factor * factor
        nearest = f"{below} or {below + factor}" if below else f"{factor}"
        require(
            size == below,
            f"img_size must be a multiple of {factor} for {levels} levels{patches}; "
            f"the valid {side} nearest to {size} is {nearest}.",
            **given,
        )


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, Integral) and value >= 1
