"""Widen the network of trained weights, to go on training with more channels.

    python studies/widen.py --weights weights/flowers64.safetensors \\
        --channel-multiplier 2 2 4 4 --out runs/wider.safetensors

A level that becomes k times as wide has each channel k times, and the weights that lead
on from a channel are shared among its copies, unevenly, so that the copies learn
different things (Chen et al. 2016, Net2Net, https://arxiv.org/abs/1511.05641).

The wider network predicts nearly, not exactly, what the old one does: where a skip
connection comes in, the groups of the normalisation are others, and a block whose input
has become as wide as its output has no 1x1 shortcut any more. Some hundred steps of
training mend that (`scripts/train.py --initial_weights`, with the same
`--channel_multiplier`).
"""

import argparse
from pathlib import Path

import numpy as np

from ddpm_keras.networks import build_network
from ddpm_keras.weights import (
    load_network,
    read_config,
    read_training_images,
    save_weights,
)

# Weights of a block whose next to last axis, or only one, is that of its input.
JOINED = ("norm_1/gamma", "norm_1/beta", "conv_1/kernel", "shortcut/kernel")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--weights", type=Path, required=True)
    text = "of the wider network: whole multiples of the old ones"
    add("--channel-multiplier", type=int, nargs="+", required=True, help=text)
    add("--out", type=Path, required=True, help="a .safetensors file")
    args = parser.parse_args()
    config = read_config(args.weights)
    before, after = np.array(config.channel_multiplier), args.channel_multiplier
    if len(before) != len(after) or (after % before).any() or (after < before).any():
        parser.error(f"--channel-multiplier: multiples of these, please: {before}")
    wider = config.model_copy(update={"channel_multiplier": after})
    network = build_network(wider)
    widen(load_network(args.weights, config), network, np.random.default_rng(0))
    trained_on = read_training_images(args.weights)
    save_weights(network, args.out, wider, training_images=trained_on)
    print(f"weights: {args.out} ({network.count_params():,} parameters)")


def widen(old, new, rng):
    """Set the weights of a wider U-Net from those of a narrower one.

    Args:
        old: A trained network of `build_unet`.
        new: Another, whose levels are as wide or a whole number of times as wide; all
            else is equal.
        rng: A NumPy `Generator`, for the shares of the copies.
    """
    arrays = {weight.path: weight.numpy() for weight in old.weights}
    for weight in new.weights:
        array, shape = arrays.get(weight.path), tuple(weight.shape)
        if array is not None:
            places = behind_a_skip(old, new, weight.path)
            array = widened(array, shape, places, rng)
        else:  # a shortcut, in a block that widens now and did not
            array = np.zeros(shape, "float32")
            if len(shape) == 4:
                block = weight.path.removesuffix("shortcut/kernel")
                width = arrays[f"{block}conv_2/kernel"].shape[-1:]  # of both sides
                inputs = copies(width, shape[-2:-1])
                first = np.searchsorted(inputs, copies(width, shape[-1:]))
                array[0, 0, first, np.arange(shape[-1])] = 1
        if "/query/" in weight.path:  # attention divides by the root of the width
            array = array * (arrays[weight.path].shape[-1] / shape[-1]) ** 0.5
        weight.assign(array)


def behind_a_skip(old, new, path):
    """Return the old channel of each new one that such a weight takes, or None.

    None if it does not take what a skip connection joins.
    """
    block, _, rest = path.partition("_residual/")
    skip = f"{block}_skip"
    if rest not in JOINED or skip not in {layer.name for layer in old.layers}:
        return None
    joined = (network.get_layer(skip).input for network in (old, new))
    return copies(*([tensor.shape[-1] for tensor in tensors] for tensors in joined))


def widened(array, shape, joined, rng):
    """Return a weight in a larger shape; `joined` is what `behind_a_skip` returns."""
    if array.ndim > 1:
        places, joined = joined, None
        if places is None:
            places = copies(array.shape[-2:-1], shape[-2:-1])
        draws = rng.uniform(0.5, 1.5, (len(places), array.shape[-1]))
        sums = np.zeros(array.shape[-2:])
        np.add.at(sums, places, draws)
        array = array[..., places, :] * (draws / sums[places])  # of one copy: all
    places = copies(array.shape[-1:], shape[-1:]) if joined is None else joined
    return array[..., places]


def copies(before, after):
    """Return the old channel of each new one; arguments are the widths of parts."""
    starts = np.cumsum([0, *before[:-1]])
    return np.concatenate(
        [
            start + np.repeat(np.arange(narrow), wide // narrow)
            for start, narrow, wide in zip(starts, before, after, strict=True)
        ]
    )


if __name__ == "__main__":
    main()
