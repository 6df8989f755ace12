"""Keras 3 `.weights.h5` files: which array is which weight of our network.

A layer's arrays are in a folder that is named after its class and numbered, and that
notes the layer's own name, which `build_unet` gives. Ours go by that name: the numbers
alone could not tell two networks apart that have attention at other levels.
"""

import os
import re

from ddpm_keras.files import written_whole

# Owner of the layers, folder of the layer, part of the layer, number of the weight.
ARRAY = re.compile(r"(ema_network/|)(layers/[^/]+)/(.*?)/?vars/(\d+)")


def from_hdf5(stored, names, network):
    """Name a file's arrays after the network's weights.

    Args:
        stored: The arrays that `read_hdf5` returns, of the network, or of a whole
            `DiffusionModel`; then `ema_network` is taken.
        names: The names of layers that it returns.
        network: The `keras.Model` that `build_unet` returns.

    Returns:
        A dict of the same arrays. One that has no place in the network keeps its name;
        what belongs to the optimizer or to the training is left out.
    """
    ours = {}
    for layer in network.layers:
        numbers = {}  # of the weights, within each part of the layer
        for weight in layer.weights:
            part = weight.path.removeprefix(layer.name).rpartition("/")[0].strip("/")
            numbers[part] = numbers.get(part, -1) + 1
            ours[layer.name, part, str(numbers[part])] = weight.path

    owners = {"ema_network/": {}, "": {}}
    for name, array in stored.items():
        if match := ARRAY.fullmatch(name):
            owner, folder, part, number = match.groups()
            layer = names.get(f"{owner}{folder}/vars")
            owners[owner][ours.get((layer, part, number), name)] = array
    return owners["ema_network/"] or owners[""]


def save_hdf5(network, path):
    """Write a network's weights as Keras does; whole or not at all.

    Args:
        network: A `keras.Model`.
        path: Where to.
    """
    with written_whole(path) as temporary:
        # Of each array, its bytes and what HDF5 notes about it.
        _reserve(temporary, sum(w.numpy().nbytes + 4096 for w in network.weights))
        # Keras insists on this ending.
        named_for_keras = temporary.with_suffix(".weights.h5")
        try:
            network.save_weights(named_for_keras)
            os.replace(named_for_keras, temporary)
        finally:
            named_for_keras.unlink(missing_ok=True)


def _reserve(path, size):
    """See that there is room; on a full disk the HDF5 library crashes at exit."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(0)
