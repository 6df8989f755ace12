"""The weights of our network in Keras 2 files.

Layer names in Keras 2 depend on what the program built before, so weights are matched
by position: our network creates them in the order of the Keras 2 example. A residual
block is one layer here and several there.
"""

import re
from itertools import groupby

import keras

from ddpm_keras.networks.layers import ResidualBlock
from ddpm_keras.weights.stored import Stored

CHECKPOINT_NAME = re.compile(
    r"(ema_network/|network/|)(layer_with_weights-\d+/(?:(?!\.OPTIMIZER_SLOT).)+)"
    r"/\.ATTRIBUTES/VARIABLE_VALUE"
)


def from_checkpoint(
    stored: dict[str, Stored], network: keras.Model
) -> dict[str, Stored]:
    """Name a checkpoint's arrays after the network's weights.

    Of a whole `DiffusionModel` those of `ema_network` are taken, or of `network` if
    there is none.
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


def from_hdf5(
    stored: dict[str, Stored], layers: list[tuple[str, list[str]]], network: keras.Model
) -> dict[str, Stored]:
    """Name the arrays of a `.h5` file after the network's weights.

    Raises:
        KeyError: When an array that a layer names is missing.
    """
    # By layer, position in the layer (which may hold other layers, whose names say
    # nothing either), and kind of weight, such as "kernel" or "bias".
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


def _layers(network: keras.Model) -> list[list[tuple[str, str]]]:
    """Return the layers as in Keras 2, each a list of `(attribute, weight path)`."""
    layers = []
    for layer in network.layers:
        pairs = [(w.path.removeprefix(f"{layer.name}/"), w.path) for w in layer.weights]
        if isinstance(layer, ResidualBlock):
            for part, group in groupby(pairs, lambda pair: pair[0].rpartition("/")[0]):
                layers.append([(a.removeprefix(f"{part}/"), p) for a, p in group])
        elif pairs:
            layers.append(pairs)
    return layers
