"""Which array of a Keras 2 file is which weight of our network.

Keras 2 names layers by the order in which a program makes them, so names say little.
But it numbers a network's layers as we do: our weights are created in the order of
the Keras 2 example. A residual block, one layer here, is a row of layers there.
"""

import re
from itertools import groupby

from ddpm_keras.networks.layers import ResidualBlock

CHECKPOINT_NAME = re.compile(
    r"(ema_network/|network/|)(layer_with_weights-\d+/(?:(?!\.OPTIMIZER_SLOT).)+)"
    r"/\.ATTRIBUTES/VARIABLE_VALUE"
)


def from_checkpoint(stored, network):
    """Name a checkpoint's arrays after the network's weights.

    Args:
        stored: What `read_checkpoint` returns, of the network, or of a whole
            `DiffusionModel`; then `ema_network` is taken, else `network`.
        network: The `keras.Model` that `build_unet` returns.

    Returns:
        A dict of the same arrays. One that has no place in the network keeps its name;
        what belongs to the optimizer or to the training is left out.
    """
    owners = {"ema_network/": {}, "": {}, "network/": {}}
    for name, array in stored.items():
        if match := CHECKPOINT_NAME.fullmatch(name):
            owners[match[1]][match[2]] = array
    named = next(filter(None, owners.values()), {})
    ours = {
        f"layer_with_weights-{number}/{attribute}": path
        for number, layer in enumerate(_layers(network))
        for attribute, path in layer
    }
    return {ours.get(name, name): array for name, array in named.items()}


def from_hdf5(stored, layers, network):
    """Name the arrays of a Keras 2 `.h5` file after the network's weights.

    Args:
        stored: The arrays that `read_hdf5` returns.
        layers: The layers that it returns.
        network: The `keras.Model` that `build_unet` returns.

    Returns:
        A dict of the same arrays. One that has no place in the network keeps its name.

    Raises:
        LookupError: When an array that a layer names is not there.
    """
    # Layers within a layer have no names to go by either; their order is told by
    # number, and every weight also by what it is: "kernel", "bias" and so on.
    ours = {
        (number, position, attribute.rpartition("/")[2]): path
        for number, layer in enumerate(_layers(network))
        for position, (attribute, path) in enumerate(layer)
    }
    with_weights = [(name, weights) for name, weights in layers if weights]
    named = {}
    for number, (layer, weights) in enumerate(with_weights):
        for position, weight in enumerate(weights):
            attribute = weight.rpartition("/")[2].removesuffix(":0")
            name = ours.get((number, position, attribute), weight)
            named[name] = stored[f"{layer}/{weight}"]
    return named


def _layers(network):
    """The layers with weights as Keras 2 has them: lists of `(attribute, path)`."""
    layers = []
    for layer in network.layers:
        pairs = [(w.path.removeprefix(f"{layer.name}/"), w.path) for w in layer.weights]
        if isinstance(layer, ResidualBlock):
            for part, group in groupby(pairs, lambda pair: pair[0].rpartition("/")[0]):
                layers.append([(a.removeprefix(f"{part}/"), p) for a, p in group])
        elif pairs:
            layers.append(pairs)
    return layers
