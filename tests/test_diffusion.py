"""The diffusion process against Keras 2's numbers and against Bayes' rule."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError
from ddpm_keras.schedules import PREDICTION_TYPES


@pytest.fixture(scope="module")
def keras2(golden):
    return golden("diffusion_linear_1000")


@pytest.fixture(scope="module")
def diffusion():
    return GaussianDiffusion()


def assert_close(actual, expected, tolerance=1e-5):
    actual = ops.convert_to_numpy(actual)
    assert actual.dtype == np.float32
    assert actual.shape == np.shape(expected)
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


def test_tables_match_keras2(diffusion, keras2):
    assert_close(diffusion.betas, keras2["betas"], 1e-7)
    assert_close(diffusion.alphas_cumprod, keras2["alphas_cumprod"], 1e-6)


def test_q_mean_variance_matches_keras2(diffusion, keras2):
    found = diffusion.q_mean_variance(keras2["x_start"], keras2["t"])
    names = ("q_mean", "q_variance", "q_log_variance")
    for actual, name in zip(found, names, strict=True):
        assert_close(actual, keras2[name])


def test_q_sample_matches_keras2(diffusion, keras2):
    found = diffusion.q_sample(keras2["x_start"], keras2["t"], keras2["noise"])
    assert_close(found, keras2["x_t"])


def test_predict_start_from_noise_matches_keras2(diffusion, keras2):
    found = diffusion.predict_start_from_noise(
        keras2["x_t"], keras2["t"], keras2["noise"]
    )
    assert_close(found, keras2["x_start_from_noise"])


def test_q_posterior_matches_keras2(diffusion, keras2):
    found = diffusion.q_posterior(keras2["x_start"], keras2["x_t"], keras2["t"])
    names = ("mean", "variance", "log_variance_clipped")
    for actual, name in zip(found, names, strict=True):
        assert_close(actual, keras2[f"posterior_{name}"])


@pytest.mark.parametrize("clip", [True, False])
def test_p_mean_variance_matches_keras2(diffusion, keras2, clip):
    mean, variance, log_variance = diffusion.p_mean_variance(
        keras2["pred_noise"], keras2["x_t"], keras2["t"], clip_denoised=clip
    )
    assert_close(mean, keras2["p_mean_clipped" if clip else "p_mean_unclipped"])
    assert_close(variance, keras2["posterior_variance"])
    assert_close(log_variance, keras2["p_log_variance"])


@pytest.mark.parametrize("timesteps", [10, 1000])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_posterior_is_bayes_rule(schedule, timesteps):
    """Of x_{t-1} ~ q(. | x_0) and x_t ~ q(. | x_{t-1}): precisions add up."""
    diffusion = GaussianDiffusion(timesteps=timesteps, schedule=schedule)
    abar = diffusion.alphas_cumprod_float64
    beta = (1 - abar / np.append(1.0, abar[:-1]))[1:].reshape(-1, 1, 1, 1)
    abar_prev = abar[:-1].reshape(-1, 1, 1, 1)
    rng = np.random.default_rng(0)
    x_start, x_t = rng.normal(size=(2, timesteps - 1, 2, 2, 1)).astype("float32")

    variance = 1 / (1 / (1 - abar_prev) + (1 - beta) / beta)
    mean = variance * (
        np.sqrt(abar_prev) / (1 - abar_prev) * x_start + np.sqrt(1 - beta) / beta * x_t
    )
    found = diffusion.q_posterior(x_start, x_t, np.arange(1, timesteps))
    for actual, expected in zip(found, (mean, variance, np.log(variance)), strict=True):
        assert_close(actual, expected)


def test_linear_schedule_of_1000_steps_is_a_line(diffusion):
    np.testing.assert_array_equal(
        diffusion.betas, np.linspace(1e-4, 0.02, 1000).astype("float32")
    )


@pytest.mark.parametrize("timesteps", [1, 10, 100, 250, 4000])
def test_linear_schedule_of_other_lengths_ends_in_the_same_noise(diffusion, timesteps):
    other = GaussianDiffusion(timesteps=timesteps)
    assert other.betas.shape == (timesteps,)
    assert (0 < other.betas).all() and (other.betas < 1).all()
    last = other.alphas_cumprod_float64[-1]
    assert last < 1e-4
    np.testing.assert_allclose(last, diffusion.alphas_cumprod_float64[-1], rtol=1e-6)


@pytest.mark.parametrize("timesteps", [10, 100, 250, 4000])
def test_linear_schedule_passes_through_the_same_noise_levels(diffusion, timesteps):
    few, many = sorted((timesteps, 1000))
    table = {
        1000: diffusion.alphas_cumprod_float64,
        timesteps: GaussianDiffusion(timesteps=timesteps).alphas_cumprod_float64,
    }
    stride = many // few
    np.testing.assert_allclose(table[many][stride - 1 :: stride], table[few], rtol=1e-9)


def test_cosine_schedule_matches_diffusers(golden):
    found = GaussianDiffusion(schedule="cosine").betas
    expected = golden("samplers_diffusers")["betas_cosine"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("timesteps", [10, 100, 250, 4000])
def test_cosine_schedule_of_any_length_ends_in_noise(timesteps):
    diffusion = GaussianDiffusion(timesteps=timesteps, schedule="cosine")
    assert (0 < diffusion.betas).all() and (diffusion.betas < 1).all()
    assert diffusion.alphas_cumprod_float64[-1] < 1e-4


def test_p_sample_adds_no_noise_at_the_last_step(diffusion, keras2):
    x, pred_noise = keras2["x_t"].copy(), keras2["pred_noise"].copy()
    x[0] = pred_noise[0] = 0  # a mean of 0, where the least noise would be seen
    t = np.zeros(len(x), "int32")
    sample = diffusion.p_sample(pred_noise, x, t, seed=0)
    mean, _, _ = diffusion.p_mean_variance(pred_noise, x, t)
    assert_close(sample, mean, 0.0)


def test_p_sample_repeats_with_its_seed(diffusion, keras2):
    def sample(seed):
        found = diffusion.p_sample(
            keras2["pred_noise"], keras2["x_t"], keras2["t"], seed=seed
        )
        return ops.convert_to_numpy(found)

    np.testing.assert_array_equal(sample(1), sample(1))
    changed = (sample(1) != sample(2)).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(changed, keras2["t"] > 0)


@pytest.mark.parametrize("t", [1, 500, 999])
def test_p_sample_is_spread_as_the_posterior(diffusion, t):
    # 49,152 draws: standard errors are 0.0045 sigma of the mean, 0.64% of the variance.
    shape = (256, 8, 8, 3)
    zeros, steps = np.zeros(shape, "float32"), np.full(256, t)
    x = np.full(shape, 0.7, "float32")
    sample = ops.convert_to_numpy(diffusion.p_sample(zeros, x, steps, seed=0))
    mean, _, _ = diffusion.p_mean_variance(zeros, x, steps)
    error = sample - ops.convert_to_numpy(mean)
    variance = diffusion.posterior_variance[t]
    assert abs(error.mean()) < 0.02 * variance**0.5
    np.testing.assert_allclose(error.var(), variance, rtol=0.03)


@pytest.mark.parametrize("t", [0, 600])
def test_predicted_clean_images_are_clipped_to_the_bounds(t):
    diffusion = GaussianDiffusion(clip_min=-0.25, clip_max=0.5)
    x = np.array([-40.0, 0.1, 40.0], "float32").reshape(3, 1, 1, 1)
    steps = np.full(3, t)
    clean = x / np.sqrt(diffusion.alphas_cumprod[t])
    for clip, x_start in ((True, np.clip(clean, -0.25, 0.5)), (False, clean)):
        mean, _, _ = diffusion.p_mean_variance(0 * x, x, steps, clip_denoised=clip)
        expected, _, _ = diffusion.q_posterior(x_start, x, steps)
        assert_close(mean, expected)
        if t == 0:  # the posterior is certain there: its mean is the clean image
            assert_close(mean, x_start)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_moments_of_the_true_output_are_the_posteriors(prediction_type, clip):
    """Of the clean image that the target stands for, clipped to the bounds or not."""
    diffusion = GaussianDiffusion(
        clip_min=-0.5, clip_max=0.25, prediction_type=prediction_type
    )
    rng = np.random.default_rng(0)
    x_start, noise = rng.normal(size=(2, 6, 2, 3, 1)).astype("float32")
    t = np.array([0, 1, 10, 100, 400, 700])
    x_t = diffusion.q_sample(x_start, t, noise)
    output = diffusion.target(x_start, noise, t)
    found = diffusion.p_mean_variance(output, x_t, t, clip_denoised=clip)
    if clip:
        x_start = x_start.clip(-0.5, 0.25)
    expected = diffusion.q_posterior(x_start, x_t, t)
    for moment, wanted in zip(found, expected, strict=True):
        assert_close(moment, ops.convert_to_numpy(wanted))


def test_config_round_trip():
    diffusion = GaussianDiffusion(
        2e-4, 0.03, 50, -2.0, 3.0, "cosine", "v_prediction", 0.5, True
    )
    assert GaussianDiffusion.from_config(diffusion.get_config()).get_config() == {
        "beta_start": 2e-4,
        "beta_end": 0.03,
        "timesteps": 50,
        "clip_min": -2.0,
        "clip_max": 3.0,
        "schedule": "cosine",
        "prediction_type": "v_prediction",
        "schedule_shift": 0.5,
        "rescale_zero_terminal_snr": True,
    }
    text = json.dumps(keras.saving.serialize_keras_object(diffusion))
    copy = keras.saving.deserialize_keras_object(json.loads(text))
    assert isinstance(copy, GaussianDiffusion)
    np.testing.assert_array_equal(copy.betas, diffusion.betas)


@pytest.mark.parametrize(
    "arguments, keys",
    [
        (dict(schedule="sigmoid"), "schedule"),
        (dict(beta_start=0.0), "beta_start beta_end"),
        (dict(beta_start=0.03), "beta_start beta_end"),
        (dict(beta_end=1.0), "beta_start beta_end"),
        (dict(timesteps=0), "timesteps"),
        (dict(timesteps=10.5), "timesteps"),
        (dict(clip_min=1.0), "clip_min clip_max"),
    ],
)
def test_invalid_arguments_are_named(arguments, keys):
    with pytest.raises(ArgumentError) as error:
        GaussianDiffusion(**arguments)
    assert error.value.keys == tuple(keys.split())
