"""The networks that can be trained, by their name in a configuration.

This imports no Keras: a configuration is checked, and compared with a weights file,
before anything is built.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from ddpm_keras.errors import InputError
from ddpm_keras.memory import total_memory
from ddpm_keras.networks import unet_arguments
from ddpm_keras.networks.unet_size import Size, unet_size


@dataclasses.dataclass(frozen=True)
class Network:
    """A network's record. Its functions take the same keyword arguments.

    Attributes:
        check: Raises `ArgumentError` for invalid arguments. Its parameters are the keys
            of the configuration that the network takes.
        build: Returns the `keras.Model` over `[image_input, time_input]`. It imports
            Keras when called.
        expected_weights: Yields `(path, shape)` of weights that identify the
            architecture, to be compared with a file.
        size: Returns the `Size` of the network.
        feature_layer: Name of the layer whose output describes an image.
    """

    check: Callable[..., None]
    build: Callable[..., Any]
    expected_weights: Callable[..., Iterator[tuple[str, tuple[int, ...]]]]
    size: Callable[..., Size]
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
        unet_size,
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


def network_size(config: Any) -> Size:
    """Return the `Size` of the network of a `Config`, without building it."""
    return NETWORKS[config.network].size(**config.network_arguments())


def check_memory(
    config: Any, batch_size: int, training: bool, batch_key: str = "batch_size"
) -> None:
    """Refuse what this machine has not the memory for, before anything is built.

    What is compared with the memory is a lower bound, where attention keeps a number
    for each pair of pixels: a network that passes may still be too large.

    Args:
        config: The `Config`.
        batch_size: Images that are computed together.
        training: Whether to train or to sample.
        batch_key: The key or flag of the batch size.

    Raises:
        InputError: It names the keys to make smaller.
    """
    memory, size = total_memory(), network_size(config)
    if memory is None:
        return
    width = 4 if config.mixed_precision == "none" or not training else 2
    # Training holds weights, their average, gradients and momentum, and a few
    # activations of each block; sampling what a file holds, and the skip connections.
    weights = 4 * size.parameters * (4 if training else 2)
    image = width * size.activations * 4 if training else width * size.activations // 2
    image += width * size.attended**2
    for keys, needed in (
        ("first_conv_channels, channel_multiplier, num_res_blocks", weights),
        ("img_size, first_conv_channels", weights + image),
        (f"{batch_key}, img_size, first_conv_channels", weights + batch_size * image),
    ):
        if needed > memory:
            needed = min(needed, 10**18)  # an int that a float can hold
            raise InputError(
                f"{keys}: the network would take {needed / 1e9:,.0f} GB of memory or "
                f"more, and this machine has {memory / 1e9:,.0f} GB; make one of them "
                "smaller"
            )
