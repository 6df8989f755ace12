"""What the U-Net asks of its arguments, in plain Python.

Kept apart from the network so that a configuration can be refused before
TensorFlow is imported, in the words in which `build_unet` refuses it.
"""

from collections.abc import Sequence
from numbers import Integral

INTERPOLATIONS = ("nearest", "bilinear")


def height_and_width(img_size: int | Sequence[int]) -> tuple[int, int]:
    """The two sides of images of a size: a pair's own, or a number twice."""
    pair = img_size if isinstance(img_size, Sequence) else (img_size, img_size)
    return tuple(pair)


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
) -> None:
    """Raises `ValueError` where these arguments of `build_unet` make no network.

    Every message ends "Received: argument=value, ...".
    """
    for name, value in (
        ("img_channels", img_channels),
        ("first_conv_channels", first_conv_channels),
        ("num_res_blocks", num_res_blocks),
        ("norm_groups", norm_groups),
    ):
        if not _is_positive_integer(value):
            raise ValueError(
                f"{name} must be an integer, 1 or more. Received: {name}={value!r}"
            )

    sizes = height_and_width(img_size)
    if len(sizes) != 2 or not all(map(_is_positive_integer, sizes)):
        raise ValueError(
            "img_size must be an integer, 1 or more, or a pair (height, width) of "
            f"them. Received: img_size={img_size!r}"
        )

    levels = len(channel_multiplier)
    if levels == 0 or levels != len(has_attention):
        raise ValueError(
            "channel_multiplier and has_attention must have one entry for each "
            f"level, but have {levels} and {len(has_attention)}. Received: "
            f"channel_multiplier={channel_multiplier!r}, "
            f"has_attention={has_attention!r}"
        )
    if not all(map(_is_positive_integer, channel_multiplier)):
        raise ValueError(
            "channel_multiplier must hold integers, 1 or more. Received: "
            f"channel_multiplier={channel_multiplier!r}"
        )

    # Every level but the last halves the image, and the way up doubles it again.
    factor = 2 ** (levels - 1)
    for side, size in zip(("height", "width"), sizes, strict=True):
        if size % factor:
            below = size // factor * factor
            nearest = f"{below} or {below + factor}" if below else f"{factor}"
            raise ValueError(
                f"img_size must be a multiple of {factor} for {levels} levels; the "
                f"valid {side} nearest to {size} is {nearest}. Received: "
                f"img_size={img_size!r}, channel_multiplier={channel_multiplier!r}"
            )

    # The first block normalises the stem's output, so the stem's width has to do
    # even where no level is that narrow; the others are multiples of it.
    if first_conv_channels % norm_groups:
        raise ValueError(
            "norm_groups must divide first_conv_channels, the width of the stem, and "
            f"so every level's. Received: norm_groups={norm_groups!r}, "
            f"first_conv_channels={first_conv_channels!r}"
        )

    if not 0 <= dropout < 1:
        raise ValueError(
            f"dropout must be 0 or more and below 1. Received: dropout={dropout!r}"
        )
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation must be {' or '.join(INTERPOLATIONS)}. "
            f"Received: interpolation={interpolation!r}"
        )


def _is_positive_integer(value: object) -> bool:
    return isinstance(value, Integral) and value >= 1
