"""The weights of our network in Keras 3 `.weights.h5` files.

A layer's arrays are in a group named by class and number, with the layer's own name,
given by `build_unet`, as an attribute. Weights are matched by that name: the numbers
alone are the same for networks that differ in where their attention is.
"""

import os
import re
from pathlib import Path

import keras

from ddpm_keras.files import written_whole
from ddpm_keras.weights.stored import Stored

# Owner of the layers, group of the layer, part of the layer, number of the weight.
ARRAY = re.compile(r"(ema_network/|)(layers/[^/]+)/(.*?)/?vars/(\d+)")


def from_hdf5(
    stored: dict[str, Stored], names: dict[str, str], network: keras.Model
) -> dict[str, Stored]:
    """Name a file's arrays after the network's weights, given layer names by group.

    Of a whole `DiffusionModel` those of `ema_network` are taken.
    """
    ours = {}
    for layer in network.layers:
        numbers = {}  # last number used in each part of the layer
        for weight in layer.weights:
            part = weight.path.removeprefix(layer.name).rpartition("/")[0].strip("/")
            numbers[part] = numbers.get(part, -1) + 1
            ours[layer.name, part, str(numbers[part])] = weight.path

    owners = {"ema_network/": {}, "": {}}
    for name, array in stored.items():
        if match := ARRAY.fullmatch(name):
            owner, group, part, number = match.groups()
            layer = names.get(f"{owner}{group}/vars")
            owners[owner][ours.get((layer, part, number), name)] = array
    return owners["ema_network/"] or owners[""]


def save_hdf5(network: keras.Model, path: str | Path) -> None:
    """Write a network's weights as Keras does, whole or not at all."""
    with written_whole(path) as temporary:
        # Each array takes its bytes and some of HDF5's own.
        _reserve(temporary, sum(w.numpy().nbytes + 4096 for w in network.weights))
        # Keras requires this ending.
        named_for_keras = temporary.with_suffix(".weights.h5")
        network.save_weights(named_for_keras)
        os.replace(named_for_keras, temporary)


def _reserve(path: Path, size: int) -> None:
    """Raise OSError on a full disk, where the HDF5 library would crash at exit."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(0)
