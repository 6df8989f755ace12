"""The networks that can be trained, by the name they have in a configuration.

Importing this loads no Keras: a configuration is checked, and a file of weights
compared with it, before anything is built.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from ddpm_keras.networks import unet_arguments


@dataclasses.dataclass(frozen=True)
class Network:
    """What the package knows of a network.

    Attributes:
        check: Raises `ArgumentError` for arguments that make no network. Its parameters
            are the keys of the configuration that the network takes.
        build: Takes the same arguments and returns the `keras.Model` over
            `[image_input, time_input]`. It imports Keras when it is called.
        expected_weights: Takes the same arguments and yields `(path, shape)` of weights
            that tell such networks apart, for comparison with a file.
        feature_layer: Name of the layer whose output describes an image.
    """

    check: Callable[..., None]
    build: Callable[..., Any]
    expected_weights: Callable[..., Iterator[tuple[str, tuple[int, ...]]]]
    feature_layer: str

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.check).parameters)


def _build_unet(**arguments: Any) -> Any:
    from ddpm_keras.networks.unet import build_unet  # which imports Keras

    return build_unet(**arguments)


NETWORKS = {
    "unet": Network(
        unet_arguments.check_unet,
        _build_unet,
        unet_arguments.expected_weights,
        feature_layer="middle_1_residual",
    ),
}


def build_network(config: Any) -> Any:
    """Build the `keras.Model` of a `Config`, with random weights.

    Raises:
        ValueError: When there is no such network, such as for an activation that Keras
            does not know.
    """
    return NETWORKS[config.network].build(**config.network_arguments())
