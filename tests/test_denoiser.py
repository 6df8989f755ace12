"""The denoiser against exact predictions, and its assembly from weights."""

import keras
import numpy as np
import pytest
from keras import ops
from saved_run import save_run

from ddpm_keras.config import Config
from ddpm_keras.denoiser import Denoiser
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError, InputError

CONFIG = Config(
    img_size=8,
    first_conv_channels=8,
    channel_multiplier=[1, 2],
    has_attention=[False, True],
    num_res_blocks=1,
    norm_groups=4,
    total_timesteps=30,
    schedule="cosine",
)


def batch(count=4):
    rng = np.random.default_rng(0)
    x_start, noise = rng.normal(size=(2, count, 8, 8, 3)).astype("float32")
    return x_start, np.arange(count, dtype="int32") * 9, noise


def test_prediction_is_that_of_the_networks_output(make_network):
    network, diffusion = make_network(), GaussianDiffusion(timesteps=30)
    x_t, t, _ = batch()
    found = ops.convert_to_numpy(Denoiser(network, diffusion)(x_t, t))
    noise = ops.convert_to_numpy(network([x_t, t]))
    abar = np.cumprod(1.0 - diffusion.betas.astype("float64"))[t].reshape(-1, 1, 1, 1)
    wanted = (x_t - np.sqrt(1.0 - abar) * noise) / np.sqrt(abar)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert found.dtype == np.float32
    again = Denoiser(network, diffusion)(x_t.astype("float64"), t)
    np.testing.assert_array_equal(ops.convert_to_numpy(again), found)


def test_weights_bring_their_configuration(tmp_path):
    network = save_run(tmp_path, CONFIG)
    denoiser = Denoiser.from_weights(tmp_path)
    assert denoiser.config == CONFIG
    assert denoiser.image_shape == (8, 8, 3)
    assert denoiser.diffusion.get_config() == (
        GaussianDiffusion(**CONFIG.diffusion_arguments()).get_config()
    )
    for found, wanted in zip(
        denoiser.network.get_weights(), network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    assert denoiser.variables == denoiser.network.variables


def test_given_configuration_comes_before_the_files(tmp_path):
    save_run(tmp_path, CONFIG)
    other = CONFIG.model_copy(update={"schedule": "linear"})
    assert Denoiser.from_weights(tmp_path, other).diffusion.schedule == "linear"
    wider = CONFIG.model_copy(update={"first_conv_channels": 16})
    with pytest.raises(InputError, match="weights of another network"):
        Denoiser.from_weights(tmp_path, wider)


def test_a_network_with_labels_says_of_how_many_classes():
    image = keras.Input((8, 8, 3), name="image_input")
    inputs = [image] + [
        keras.Input((), dtype="int32", name=name)
        for name in ("time_input", "label_input")
    ]
    network = keras.Model(inputs, keras.layers.Identity()(image))
    with pytest.raises(ArgumentError, match="a layer called `label_embedding`"):
        assert Denoiser(network, GaussianDiffusion()).num_classes
