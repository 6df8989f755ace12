"""diffusers and PyTorch, to compare with, at their fastest on a processor.

Their network has the widths and blocks of ours, its activations and weights are laid
out channels last, attention is one fused call, and Adam is one fused kernel. Each
program is timed as it is and compiled by `torch.compile`.
"""

import contextlib
import importlib.util
from importlib.metadata import version

# Name in the tables, and whether `torch.compile` compiles the network.
PEERS = {"diffusers": False, "diffusers, torch.compile": True}
MISSING = "diffusers is not installed: pip install 'ddpm_keras[bench]'"


def installed():
    """Return the names of the programs to compare with; none without diffusers."""
    found = all(importlib.util.find_spec(name) for name in ("torch", "diffusers"))
    return list(PEERS) if found else []


def settings():
    """Describe what the peers run with."""
    if not installed():
        return MISSING
    import torch

    return (
        f"diffusers {version('diffusers')}, torch {version('torch')}, "
        f"{torch.get_num_threads()} threads, channels_last, float32, fused attention "
        "and Adam; compiled: the default mode, for sampling with frozen weights"
    )


def build_peer(arguments, name):
    """Build a `UNet2DModel` from the arguments of `build_unet`, as `PEERS` says."""
    import torch
    from diffusers import UNet2DModel

    attention = arguments["has_attention"]
    base = arguments["first_conv_channels"]
    network = UNet2DModel(
        sample_size=arguments["img_size"],
        block_out_channels=[base * m for m in arguments["channel_multiplier"]],
        layers_per_block=arguments["num_res_blocks"],
        down_block_types=["AttnDownBlock2D" if a else "DownBlock2D" for a in attention],
        up_block_types=[
            "AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)
        ],
        attention_head_dim=None,  # one head, like ours
        norm_num_groups=8,
    ).to(memory_format=torch.channels_last)
    return torch.compile(network) if PEERS[name] else network


def frozen():
    """Return a context of `torch.compile` that packs the weights once, for sampling."""
    with contextlib.suppress(ImportError, AttributeError):
        from torch._inductor import config

        return config.patch(freezing=True)
    return contextlib.nullcontext()


def channels_last(images):
    """Return a tensor `(batch, channels, height, width)` with its channels last."""
    import torch

    return images.contiguous(memory_format=torch.channels_last)
