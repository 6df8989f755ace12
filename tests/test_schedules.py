"""Noise levels that are shifted, or that end in pure noise."""

import mixture
import numpy as np
import pytest
from keras import ops

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError
from ddpm_keras.samplers import SAMPLERS, make_steps
from ddpm_keras.sampling import ReverseProcess
from ddpm_keras.schedules import SCHEDULES, noise_levels, signal_to_noise

RECIPE = {"timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}


@pytest.mark.parametrize("shift", [0.5, 2.0])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_shift_moves_the_logarithm_of_the_signal_to_noise_ratio(schedule, shift):
    """By 2 log shift at every timestep, Hoogeboom et al. 2023, equation 9."""
    _, plain = noise_levels(schedule, **RECIPE)
    betas, shifted = noise_levels(schedule, **RECIPE, shift=shift)
    moved = np.log(signal_to_noise(shifted)) - np.log(signal_to_noise(plain))
    np.testing.assert_allclose(moved, 2 * np.log(shift), rtol=1e-9)
    np.testing.assert_allclose(np.cumprod(1 - betas), shifted, rtol=1e-9)
    assert (0 < betas).all() and (betas < 1).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_defaults_leave_the_schedule_as_it_is(schedule):
    betas, abar = noise_levels(schedule, **RECIPE)
    again = noise_levels(schedule, **RECIPE, shift=1.0, zero_terminal_snr=False)
    np.testing.assert_array_equal(again, (betas, abar))
    np.testing.assert_array_equal(betas, SCHEDULES[schedule](**RECIPE))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule_ends_in_pure_noise(schedule):
    """Square roots of abar are shifted and scaled, Lin et al. 2023, algorithm 1."""
    _, plain = noise_levels(schedule, **RECIPE)
    betas, abar = noise_levels(schedule, **RECIPE, zero_terminal_snr=True)
    np.testing.assert_allclose(abar[0], plain[0], rtol=1e-12)
    assert abar[-1] == 0 and betas[-1] == 1
    assert (np.diff(abar) < 0).all() and (betas > 0).all()
    moved, before = (np.sqrt(table[0]) - np.sqrt(table[1:]) for table in (abar, plain))
    np.testing.assert_allclose(moved / before, moved[-1] / before[-1], rtol=1e-9)
    np.testing.assert_allclose(np.cumprod(1 - betas), abar, rtol=1e-9)


def test_shift_comes_before_the_pure_noise():
    _, abar = noise_levels("cosine", **RECIPE, shift=0.5, zero_terminal_snr=True)
    _, shifted = noise_levels("cosine", **RECIPE, shift=0.5)
    assert abar[-1] == 0
    np.testing.assert_allclose(abar[0], shifted[0], rtol=1e-12)


@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
class TestPureNoise:
    """The last timestep without any signal."""

    @pytest.fixture
    def diffusion(self, prediction_type):
        return GaussianDiffusion(
            timesteps=100,
            prediction_type=prediction_type,
            rescale_zero_terminal_snr=True,
        )

    def test_training_is_finite(self, diffusion):
        x_start, noise = np.random.default_rng(0).normal(size=(2, 2, 1, 1, 2))
        x_start, noise = np.float32(x_start), np.float32(noise)
        t = np.array([99, 99])
        x_t = ops.convert_to_numpy(diffusion.q_sample(x_start, t, noise))
        np.testing.assert_array_equal(x_t, noise)
        target = ops.convert_to_numpy(diffusion.target(x_start, noise, t))
        found = diffusion.predict_start(target, x_t, t)
        np.testing.assert_allclose(ops.convert_to_numpy(found), x_start, rtol=1e-6)
        weights = diffusion.loss_weights(5.0)
        assert np.isfinite(weights).all() and weights[-1] == 0

    def test_posterior_is_finite(self, diffusion):
        x = np.full((100, 1, 1, 1), 0.5, "float32")
        moments = diffusion.p_mean_variance(x, x, np.arange(100))
        assert all(
            np.isfinite(ops.convert_to_numpy(moment)).all() for moment in moments
        )

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_every_sampler_begins_with_the_mean_of_the_data(self, diffusion, sampler):
        """The exact answer to pure noise, which one step returns."""
        network = mixture.exact_network(diffusion, side=32)
        process = ReverseProcess(network, diffusion)
        options = dict(sampler=sampler, clip_denoised=False, verbose=0)
        first = process.generate_images(2, steps=1, **options)
        wanted = np.broadcast_to(mixture.MEAN, first.shape)
        np.testing.assert_allclose(first, wanted, atol=1e-5)
        images = process.generate_images(4, steps=50, **options)
        assert abs(mixture.share_of_first(images) - mixture.SHARES[0]) < 0.02

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_steps_are_finite(self, diffusion, sampler):
        for steps in (1, 2, 3, 50, 100):
            plan = make_steps(diffusion, sampler, steps)
            for column in (plan.a, plan.b, plan.c, plan.sigma):
                assert np.isfinite(column).all(), steps


@pytest.mark.parametrize(
    "arguments, keys",
    [
        (dict(schedule_shift=0.0), "schedule_shift"),
        (dict(schedule_shift=-1.0), "schedule_shift"),
        (
            dict(rescale_zero_terminal_snr=True),
            "rescale_zero_terminal_snr prediction_type",
        ),
        (
            dict(rescale_zero_terminal_snr=True, prediction_type="sample", timesteps=1),
            "rescale_zero_terminal_snr",
        ),
        (dict(prediction_type="noise"), "prediction_type"),
        (dict(beta_end=0.35), "beta_end prediction_type"),
        (dict(beta_end=0.4, timesteps=10), "beta_end prediction_type"),
    ],
    ids=str,
)
def test_invalid_noise_levels_are_named(arguments, keys):
    with pytest.raises(ArgumentError) as error:
        GaussianDiffusion(**arguments)
    assert error.value.keys == tuple(keys.split())
