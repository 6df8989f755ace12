"""Weights of Keras 2 give the same output as in Keras 2."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from ddpm_keras.errors import InputError
from ddpm_keras.networks.unet import build_unet
from ddpm_keras.weights import load_weights
from ddpm_keras.weights.tf_checkpoint import read_checkpoint

TINY = Path(__file__).parent / "golden" / "keras2_checkpoint_tiny"
OTHERS = {  # arguments of `build_unet` that differ from BASE
    "wider and grey": dict(
        first_conv_channels=24, channel_multiplier=(2, 3), img_channels=1
    ),
    "deeper": dict(
        img_size=16,
        channel_multiplier=(1, 1, 2, 3),
        has_attention=(False, False, False, True),
        num_res_blocks=2,
    ),
    "attention everywhere": dict(
        img_size=(8, 16), has_attention=(True, True), interpolation="bilinear"
    ),
    "attention at the top": dict(has_attention=(True, False)),
    "attention in the middle only": dict(has_attention=(False, False)),
    "repeated widths": dict(
        img_size=16,
        channel_multiplier=(1, 2, 2, 2),
        has_attention=(False, True, False, False),
    ),
    "narrower below": dict(channel_multiplier=(3, 1)),
    "one level": dict(channel_multiplier=(2,), has_attention=(True,), num_res_blocks=3),
}
BASE = dict(
    img_size=8,
    first_conv_channels=8,
    channel_multiplier=(1, 2),
    has_attention=(False, True),
    num_res_blocks=1,
    norm_groups=8,
)


@pytest.fixture(scope="module")
def recipe():
    pytest.importorskip("tf_keras")
    import keras2_recipe

    return keras2_recipe


def assert_same_weights(ours, theirs):
    pairs = zip(ours.weights, theirs.weights, strict=True)
    assert all(np.array_equal(*pair) for pair in pairs)


def check_both_formats(recipe, randomise, folder, arguments):
    """Check that both files of a Keras 2 network give our network its output."""
    reference = randomise(recipe.build_keras2_unet(**arguments))
    reference.save_weights(folder / "checkpoint")
    reference.save_weights(folder / "weights.h5")
    network = build_unet(**arguments)
    for name in ("checkpoint", "weights.h5"):
        randomise(network, seed=1)
        load_weights(network, folder / name)
        assert_same_weights(network, reference)

    if keras.backend.backend() == "jax":
        return network  # op by op, JAX would compile for a minute
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, *network.input_shape[0][1:]), "float32")
    t = np.array([3, 991])
    wanted = np.asarray(reference([images, t]))
    found = np.asarray(network([images, t.astype("int32")]))
    assert np.abs(found - wanted).max() < 1e-4 * max(1.0, np.abs(wanted).max())
    return network


def test_golden_network_is_the_one_of_the_file():
    config = json.loads(str(np.load(TINY / "expected.npz")["config"]))
    assert config == {
        "size": 16,
        "base": 16,
        "mults": [1, 2],
        "attention": [False, True],
        "blocks": 1,
    }


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_model_checkpoint",
        "diffusion_model_checkpoint.index",
        "diffusion_model_checkpoint.data-00000-of-00001",
        "diffusion_model.h5",
    ],
)
def test_golden_weights_give_the_golden_output(name):
    network = build_unet(**BASE | dict(img_size=16, first_conv_channels=16))
    load_weights(network, TINY / name)
    with np.load(TINY / "expected.npz") as expected:
        inputs = [expected["image"], expected["time"].astype("int32")]
        found = np.asarray(network(inputs))
        assert np.abs(found - expected["output"]).max() < 1e-4


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_other_networks(recipe, randomise, tmp_path, changes):
    check_both_formats(recipe, randomise, tmp_path, BASE | changes)


@pytest.mark.slow
def test_published_network(recipe, randomise, tmp_path):
    network = check_both_formats(recipe, randomise, tmp_path, {"img_size": 64})
    assert network.count_params() == 63_200_387
    assert len(network.weights) == 382


@pytest.mark.parametrize("legacy", [False, True])
def test_average_is_taken_from_a_whole_model(recipe, randomise, tmp_path, legacy):
    network = randomise(recipe.build_keras2_unet(**BASE), seed=1)
    average = randomise(recipe.build_keras2_unet(**BASE), seed=2)
    model = recipe.Keras2DiffusionModel(network, average)
    model.compile(optimizer=recipe.make_optimizer(network, legacy))
    model.save_weights(tmp_path / "checkpoint")
    names = read_checkpoint(tmp_path / "checkpoint")
    assert any("optimizer" in name for name in names)

    ours = build_unet(**BASE)
    load_weights(ours, tmp_path / "checkpoint")
    assert_same_weights(ours, average)


def test_network_is_taken_from_a_model_without_an_average(recipe, randomise, tmp_path):
    network = randomise(recipe.build_keras2_unet(**BASE))
    model = recipe.Keras2DiffusionModel(network, None)
    model.compile(optimizer=recipe.make_optimizer(network, legacy=True))
    model.save_weights(tmp_path / "checkpoint")
    ours = build_unet(**BASE)
    load_weights(ours, tmp_path / "checkpoint")
    assert_same_weights(ours, network)


def test_tensorflow_reads_the_same_arrays():
    tensorflow = pytest.importorskip("tensorflow")
    prefix = TINY / "diffusion_model_checkpoint"
    reader = tensorflow.train.load_checkpoint(str(prefix))
    shapes = reader.get_variable_to_shape_map()
    stored = read_checkpoint(prefix)
    assert stored.keys() == shapes.keys()
    for name, array in stored.items():
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH":
            assert array.shape == tuple(shapes[name])
            assert np.array_equal(array.read(), reader.get_tensor(name))


def test_any_flipped_bit_of_the_data_is_noticed(tmp_path):
    for path in TINY.glob("diffusion_model_checkpoint*"):
        shutil.copy(path, tmp_path)
    data = tmp_path / "diffusion_model_checkpoint.data-00000-of-00001"
    kernel = read_checkpoint(tmp_path / "diffusion_model_checkpoint")[
        "layer_with_weights-1/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    ]
    start = data.read_bytes().index(kernel.read().tobytes())
    for place in range(start, start + 1728, 43):
        flipped = bytearray(data.read_bytes())
        flipped[place] ^= 1 << place % 8
        data.write_bytes(flipped)
        with pytest.raises(InputError, match="damaged"):
            kernel.read()
        flipped[place] ^= 1 << place % 8
        data.write_bytes(flipped)
    kernel.read()
