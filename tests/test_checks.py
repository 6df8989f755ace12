"""Every refusal of `check_unet`, word for word."""

import numpy as np
import pytest

from ddpm_keras.networks.unet_arguments import check_unet

VALID = dict(
    img_size=64,
    img_channels=3,
    first_conv_channels=64,
    channel_multiplier=[1, 2, 4, 8],
    has_attention=[False, False, True, True],
    num_res_blocks=2,
    norm_groups=8,
    dropout=0.0,
    interpolation="nearest",
    activation="swish",
)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        dict(img_size=(48, 64)),
        dict(img_size=[8, 8]),
        dict(img_size=np.int64(8)),
        dict(channel_multiplier=(1, 2, 2, 2), dropout=0.5, interpolation="bilinear"),
        dict(img_size=7, channel_multiplier=[3], has_attention=[True]),
    ],
)
def test_accepts(arguments):
    check_unet(**VALID | arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            dict(img_size=60),
            "img_size must be a multiple of 8 for 4 levels; the valid height nearest "
            "to 60 is 56 or 64. "
            "Received: img_size=60, channel_multiplier=[1, 2, 4, 8]",
        ),
        (
            dict(img_size=(64, 4)),
            "img_size must be a multiple of 8 for 4 levels; the valid width nearest "
            "to 4 is 8. "
            "Received: img_size=(64, 4), channel_multiplier=[1, 2, 4, 8]",
        ),
        (
            dict(img_size=0),
            "img_size must be an integer, 1 or more, or a pair (height, width) of "
            "them. Received: img_size=0",
        ),
        (
            dict(img_size=(64, 64, 3)),
            "img_size must be an integer, 1 or more, or a pair (height, width) of "
            "them. Received: img_size=(64, 64, 3)",
        ),
        (
            dict(img_size=64.0),
            "img_size must be an integer, 1 or more, or a pair (height, width) of "
            "them. Received: img_size=64.0",
        ),
        (
            dict(img_channels=0),
            "img_channels must be an integer, 1 or more. Received: img_channels=0",
        ),
        (
            dict(first_conv_channels=-64),
            "first_conv_channels must be an integer, 1 or more. "
            "Received: first_conv_channels=-64",
        ),
        (
            dict(num_res_blocks=1.5),
            "num_res_blocks must be an integer, 1 or more. "
            "Received: num_res_blocks=1.5",
        ),
        (
            dict(norm_groups=0),
            "norm_groups must be an integer, 1 or more. Received: norm_groups=0",
        ),
        (
            dict(channel_multiplier=[1, 2, 4]),
            "channel_multiplier and has_attention must have one entry for each level, "
            "but have 3 and 4. Received: channel_multiplier=[1, 2, 4], "
            "has_attention=[False, False, True, True]",
        ),
        (
            dict(channel_multiplier=[], has_attention=[]),
            "channel_multiplier and has_attention must have one entry for each level, "
            "but have 0 and 0. Received: channel_multiplier=[], has_attention=[]",
        ),
        (
            dict(channel_multiplier=[1, 2, 0, 8]),
            "channel_multiplier must hold integers, 1 or more. "
            "Received: channel_multiplier=[1, 2, 0, 8]",
        ),
        (
            dict(first_conv_channels=20),
            "norm_groups must divide first_conv_channels, the width of the stem, and "
            "so every level's. Received: norm_groups=8, first_conv_channels=20",
        ),
        (
            # The levels alone would do here: 24 and 48 channels.
            dict(
                first_conv_channels=12,
                channel_multiplier=[2, 4],
                has_attention=[False, True],
            ),
            "norm_groups must divide first_conv_channels, the width of the stem, and "
            "so every level's. Received: norm_groups=8, first_conv_channels=12",
        ),
        (
            dict(dropout=1.0),
            "dropout must be 0 or more and below 1. Received: dropout=1.0",
        ),
        (
            dict(dropout=float("nan")),
            "dropout must be 0 or more and below 1. Received: dropout=nan",
        ),
        (
            dict(interpolation="cubic"),
            "interpolation must be nearest or bilinear. "
            "Received: interpolation='cubic'",
        ),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError) as error:
        check_unet(**VALID | arguments)
    assert str(error.value) == message
