"""The networks that can be trained, by their name in a configuration.

This imports no Keras: a configuration is checked, and compared with a weights file,
before anything is built.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from ddpm_keras.networks import unet_arguments


@dataclasses.dataclass(frozen=True)
class Network:
    """A network's record. Its three functions take the same keyword arguments.

    Attributes:
        check: Raises `ArgumentError` for invalid arguments. Its parameters are the keys
            of the configuration that the network takes.
        build: Returns the `keras.Model` over `[image_input, time_input]`. It imports
            Keras when called.
        expected_weights: Yields `(path, shape)` of weights that identify the
            architecture, to be compared with a file.
        feature_layer: Name of the layer whose output describes an image.
    """

    check: Callable[..., None]
    build: Callable[..., Any]
    expected_weights: Callable[..., Iterator[tuple[str, tuple[int, ...]]]]
    feature_layer: str

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the configuration that the network takes."""
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
        ValueError: When the network cannot be built, for example for an activation
            that Keras does not know.
    """
    return NETWORKS[config.network].build(**config.network_arguments())
