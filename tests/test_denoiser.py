"""The denoiser against exact predictions, and its assembly from weights."""

import numpy as np
import pytest
from keras import ops
from saved_run import save_run

from ddpm_keras.config import Config
from ddpm_keras.denoiser import Denoiser
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import InputError

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


def test_clean_images_come_back_from_the_target():
    """`predict_start` is the inverse of `target`, whatever is predicted."""
    diffusion = GaussianDiffusion(timesteps=30)
    x_start, t, noise = batch()
    x_t = diffusion.q_sample(x_start, t, noise)
    target = diffusion.target(x_start, noise, t)
    found = ops.convert_to_numpy(diffusion.predict_start(target, x_t, t))
    np.testing.assert_allclose(found, x_start, atol=1e-4)


def test_prediction_is_that_of_the_networks_output(make_network):
    network, diffusion = make_network(), GaussianDiffusion(timesteps=30)
    x_t, t, _ = batch()
    found = ops.convert_to_numpy(Denoiser(network, diffusion)(x_t, t))
    noise = ops.convert_to_numpy(network([x_t, t]))
    abar = np.cumprod(1.0 - diffusion.betas.astype("float64"))[t].reshape(-1, 1, 1, 1)
    wanted = (x_t - np.sqrt(1.0 - abar) * noise) / np.sqrt(abar)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert found.dtype == np.float32


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


def test_features_are_the_means_of_the_middle(tmp_path):
    save_run(tmp_path, CONFIG)
    denoiser = Denoiser.from_weights(tmp_path)
    x_t, t, _ = batch()
    features = ops.convert_to_numpy(denoiser.feature_model()([x_t, t]))
    assert features.shape == (4, 16)
    assert np.abs(features - features[0]).max() > 1e-3
