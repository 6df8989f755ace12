"""What a network may learn to output, and how it is weighted, against diffusers."""

import dataclasses

import keras
import numpy as np
import pytest
from exact_noise import network_of
from keras import ops

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.model import DiffusionModel
from ddpm_keras.samplers import ddim, make_steps
from ddpm_keras.sampling import ReverseProcess
from ddpm_keras.schedules import PREDICTION_TYPES, signal_to_noise

SCHEDULES = ("linear", "cosine")


@pytest.fixture(scope="module")
def diffusers(golden):
    return golden("objectives_diffusers")


@pytest.fixture(scope="module")
def batch(diffusers):
    """Clean images, timesteps and noise."""
    x_start, noise = (diffusers[key].astype("float32") for key in ("x_start", "noise"))
    return x_start, diffusers["t"].astype("int32"), noise


def assert_close(found, wanted, tolerance=1e-5):
    found = ops.convert_to_numpy(found)
    assert found.dtype == np.float32 and found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noisy_images(diffusers, batch, schedule):
    found = GaussianDiffusion(schedule=schedule).q_sample(*batch)
    assert_close(found, diffusers[f"{schedule}_x_t"])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_target(diffusers, batch, schedule, prediction_type):
    diffusion = GaussianDiffusion(schedule=schedule, prediction_type=prediction_type)
    x_start, t, noise = batch
    wanted = {
        "epsilon": noise,
        "v_prediction": diffusers[f"{schedule}_target_v_prediction"],
        "sample": x_start,
    }
    found = ops.convert_to_tensor(diffusion.target(x_start, noise, t))
    assert_close(found, wanted[prediction_type])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_clean_images_of_an_output(diffusers, batch, schedule, prediction_type):
    diffusion = GaussianDiffusion(schedule=schedule, prediction_type=prediction_type)
    x_t, output = (
        diffusers[key].astype("float32")
        for key in (f"{schedule}_x_t", "network_output")
    )
    found = ops.convert_to_tensor(diffusion.predict_start(output, x_t, batch[1]))
    assert_close(found, diffusers[f"{schedule}_predict_start_{prediction_type}"])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_signal_to_noise(diffusers, schedule):
    """diffusers computes abar in float32: 1 - abar of the first timesteps is rough."""
    abar = GaussianDiffusion(schedule=schedule).alphas_cumprod_float64
    wanted = diffusers[f"{schedule}_snr"]
    np.testing.assert_allclose(signal_to_noise(abar)[50:], wanted[50:], rtol=2e-5)
    np.testing.assert_allclose(signal_to_noise(abar)[:50], wanted[:50], rtol=1e-3)


@pytest.mark.parametrize("gamma", [1, 5])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_min_snr_weights(diffusers, schedule, prediction_type, gamma):
    diffusion = GaussianDiffusion(schedule=schedule, prediction_type=prediction_type)
    found = diffusion.loss_weights(gamma)
    wanted = diffusers[f"{schedule}_min_snr_{gamma}_{prediction_type}"]
    assert_close(found, wanted)


def test_decay_of_the_average_warms_up(diffusers):
    """Read from averages of 0 that follow weights of 1."""
    image, t = keras.Input((1, 1, 1)), keras.Input((), dtype="int32")
    network = keras.Model([image, t], keras.layers.Dense(1, name="dense")(image))
    model = DiffusionModel(network, ema=0.9999, ema_warmup_power=0.75)
    model.compile(loss="mse", optimizer="adam")
    network.set_weights([np.ones(w.shape) for w in network.weights])
    decays = []
    for steps in diffusers["ema_warmup_steps"]:
        model.ema_network.set_weights([np.zeros(w.shape) for w in network.weights])
        model.optimizer.inner_optimizer.iterations.assign(int(steps))
        model.after_update()
        decays.append(1.0 - model.ema_network.get_weights()[0].item())
    wanted = diffusers["ema_warmup_decay_0.9999_power_0.75"]
    assert wanted[0] < 0.5 and wanted[-1] == 0.9999  # both ends of the ramp
    np.testing.assert_allclose(decays, wanted, atol=1e-5)


class LinearNetwork(keras.layers.Layer):
    """A linear map of the channels that fades with t, as in the golden file."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = np.float32(matrix)

    def call(self, x, t):
        fade = 1.0 - ops.cast(t, "float32") / 2000.0
        return ops.matmul(x, self.matrix) * fade[:, None, None, None]


def with_equal_steps(plan, diffusion, stride):
    """The DDIM steps of diffusers, which are all of one length.

    Where it does not divide the timesteps, one step leads to another timestep than the
    one that the next step starts from; ours do not.
    """
    abar = np.append(diffusion.alphas_cumprod_float64, 1.0)
    columns = ddim(abar[plan.timesteps], abar[plan.timesteps - stride])
    names = ("a", "b", "c", "sigma")
    columns = [column.astype("float32") for column in columns]
    return dataclasses.replace(plan, **dict(zip(names, columns, strict=True)))


@pytest.mark.parametrize("sampler", ["ddim", "dpmpp"])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_nine_steps(diffusers, prediction_type, sampler):
    diffusion = GaussianDiffusion(prediction_type=prediction_type)
    x_T = diffusers["x_T"].astype("float32")
    network = network_of(LinearNetwork(diffusers["linear_network"]), x_T.shape[1:])
    process = ReverseProcess(network, diffusion)
    plan = make_steps(diffusion, sampler, 9, "trailing")
    if sampler == "ddim":
        plan = with_equal_steps(plan, diffusion, 1000 // 9)
    seeds = np.arange(len(x_T))
    *_, (t, x, _) = process.run(plan, seeds, x_T, clip_denoised=False, every=9)
    assert t == -1
    assert_close(x, diffusers[f"{sampler}_9_{prediction_type}"], 1e-4)
