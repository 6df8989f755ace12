"""What `check_unet` accepts, and which arguments its errors name."""

import numpy as np
import pytest

from ddpm_keras.errors import ArgumentError
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
        dict(img_size=(48, 96), patch_size=6, num_classes=1, augment=True),
    ],
)
def test_accepts(arguments):
    check_unet(**VALID | arguments)


@pytest.mark.parametrize(
    "arguments, keys",
    [
        (dict(img_size=60), "img_size channel_multiplier"),
        (dict(img_size=(64, 4)), "img_size channel_multiplier"),
        (dict(img_size=0), "img_size"),
        (dict(img_size=(64, 64, 3)), "img_size"),
        (dict(img_size=64.0), "img_size"),
        (dict(img_channels=0), "img_channels"),
        (dict(first_conv_channels=-64), "first_conv_channels"),
        (dict(num_res_blocks=1.5), "num_res_blocks"),
        (dict(norm_groups=0), "norm_groups"),
        (dict(channel_multiplier=[1, 2, 4]), "channel_multiplier has_attention"),
        (
            dict(channel_multiplier=[], has_attention=[]),
            "channel_multiplier has_attention",
        ),
        (dict(channel_multiplier=[1, 2, 0, 8]), "channel_multiplier"),
        (dict(first_conv_channels=20), "norm_groups first_conv_channels"),
        (
            # The levels alone would do here: 24 and 48 channels.
            dict(
                first_conv_channels=12,
                channel_multiplier=[2, 4],
                has_attention=[False, True],
            ),
            "norm_groups first_conv_channels",
        ),
        (dict(dropout=1.0), "dropout"),
        (dict(dropout=float("nan")), "dropout"),
        (dict(interpolation="cubic"), "interpolation"),
        (dict(patch_size=0), "patch_size"),
        (dict(patch_size=2.0), "patch_size"),
        (dict(patch_size=3), "img_size channel_multiplier patch_size"),
        (dict(num_classes=0), "num_classes"),
    ],
    ids=str,
)
def test_invalid_arguments_are_named(arguments, keys):
    with pytest.raises(ArgumentError) as error:
        check_unet(**VALID | arguments)
    assert error.value.keys == tuple(keys.split())


@pytest.mark.parametrize(
    "img_size, side, valid",
    [(60, "height", "60 is 56 or 64"), ((64, 4), "width", "4 is 8")],
)
def test_message_suggests_valid_sizes(img_size, side, valid):
    with pytest.raises(ArgumentError) as error:
        check_unet(**VALID | {"img_size": img_size})
    assert str(error.value) == (
        f"img_size must be a multiple of 8 for 4 levels; the valid {side} nearest to "
        f"{valid}. Received: img_size={img_size}, channel_multiplier=[1, 2, 4, 8]"
    )


def test_message_suggests_valid_sizes_for_patches():
    with pytest.raises(ArgumentError) as error:
        check_unet(**VALID | {"img_size": [64, 72], "patch_size": 2})
    assert str(error.value) == (
        "img_size must be a multiple of 16 for 4 levels of patches of 2x2; the valid "
        "width nearest to 72 is 64 or 80. Received: img_size=[64, 72], "
        "channel_multiplier=[1, 2, 4, 8], patch_size=2"
    )
