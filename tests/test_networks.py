"""The records of the networks, against the networks that they build."""

import inspect

import numpy as np
import pytest

from ddpm_keras.config import Config
from ddpm_keras.networks import NETWORKS, build_network
from ddpm_keras.networks.unet import build_unet

TINY = Config(
    img_size=[8, 16],
    first_conv_channels=8,
    channel_multiplier=[1, 2, 2],
    has_attention=[False, True, False],
    num_res_blocks=2,
    norm_groups=4,
)


@pytest.fixture(scope="module")
def network():
    return build_network(TINY)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_argument_is_known_to_the_configuration(name):
    config = Config()
    assert all(hasattr(config, key) for key in NETWORKS[name].keys)


def test_unet_is_checked_for_what_it_is_built_from():
    assert NETWORKS["unet"].keys == tuple(inspect.signature(build_unet).parameters)


def test_network_has_the_size_of_the_configuration(network):
    image, t = network.inputs
    assert image.shape[1:] == network.output.shape[1:] == TINY.image_shape
    assert (image.name, t.name) == ("image_input", "time_input")


def test_expected_weights_are_those_of_the_network(network):
    shapes = {weight.path: tuple(weight.shape) for weight in network.weights}
    record = NETWORKS[TINY.network]
    expected = dict(record.expected_weights(**TINY.network_arguments()))
    assert expected.items() <= shapes.items()
    # Every block has one, so that files of two networks cannot be mistaken.
    blocks = {path for path in shapes if path.endswith("_residual/conv_2/kernel")}
    assert expected.keys() == {b for b in blocks if not b.startswith("middle")}


def test_feature_layer_is_a_layer_of_the_network(network):
    layer = network.get_layer(NETWORKS[TINY.network].feature_layer)
    assert np.prod(layer.output.shape[1:3]) == 2 * 4
