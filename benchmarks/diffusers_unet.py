"""The network of diffusers in the shape of ours, for comparison."""


def build_theirs(arguments):
    """Build a `UNet2DModel` from the arguments of `build_unet`."""
    from diffusers import UNet2DModel

    attention = arguments["has_attention"]
    base = arguments["first_conv_channels"]
    return UNet2DModel(
        sample_size=arguments["img_size"],
        block_out_channels=[base * m for m in arguments["channel_multiplier"]],
        layers_per_block=arguments["num_res_blocks"],
        down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        up_block_types=[
            "AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)
        ],
        attention_head_dim=None,  # one head, like ours
        norm_num_groups=8,
    )
