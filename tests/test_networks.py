"""The records of the networks, against the networks that they build."""

import inspect

import numpy as np
import pytest

from ddpm_keras.config import Config
from ddpm_keras.errors import InputError
from ddpm_keras.networks import NETWORKS, build_network, check_memory, network_size
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


def test_size_is_known_before_the_network_is_built(network):
    assert network_size(TINY).parameters == network.count_params()
    assert network_size(Config()).parameters == 63_200_387
    wanted = TINY.model_copy(
        update={
            "img_size": 8,
            "patch_size": 2,
            "channel_multiplier": [2, 1],
            "has_attention": [True, False],
            "class_labels": True,
            "class_names": ["a", "b", "c"],
            "augment": 0.1,
        }
    )
    size = network_size(wanted)
    assert size.parameters == build_network(wanted).count_params()
    assert size.attended == 4 * 4
    # Five blocks of each level, and two in the middle.
    assert size.activations == 5 * (16 * 16 + 4 * 8) + 2 * 4 * 8


@pytest.mark.parametrize(
    "changes, keys",
    [
        ({}, None),
        ({"channel_multiplier": [1, 2, 2**20]}, "first_conv_channels, channel_mult"),
        ({"num_res_blocks": 2**60}, "first_conv_channels, channel_multiplier, num_r"),
        ({"img_size": 2**12}, "img_size, first_conv_channels: "),
        ({"batch_size": 2**24}, "batch_size, img_size, first_conv_channels: "),
    ],
)
def test_what_is_beyond_the_memory_is_refused_in_time(monkeypatch, changes, keys):
    monkeypatch.setattr("ddpm_keras.networks.total_memory", lambda: 8 * 2**30)
    config = TINY.model_copy(update=changes)
    if keys is None:
        check_memory(config, config.batch_size, training=True)
        return
    with pytest.raises(InputError, match=f"^{keys}") as error:
        check_memory(config, config.batch_size, training=True)
    assert "this machine has 9 GB; make one of them smaller" in str(error.value)


def test_where_the_memory_is_not_known_nothing_is_refused(monkeypatch):
    monkeypatch.setattr("ddpm_keras.networks.total_memory", lambda: None)
    check_memory(TINY, 2**24, training=True)
