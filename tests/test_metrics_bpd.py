"""The variational bound, against the numbers of improved-diffusion and definitions."""

import numpy as np
import pytest
from exact_noise import ExactNoise, network_of
from keras import ops

from ddpm_keras.denoiser import Denoiser
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError
from ddpm_keras.metrics.bpd import (
    VariationalBound,
    discretised_log_likelihood,
    gaussian_divergence,
)


@pytest.fixture(scope="module")
def bound():
    diffusion = GaussianDiffusion()
    return VariationalBound(Denoiser(network_of(ExactNoise(diffusion)), diffusion))


GOLDEN_NAMES = {"posterior": "fixed_small", "beta": "fixed_large"}


def test_terms_agree_with_improved_diffusion(bound, golden):
    expected = golden("bpd_improved_diffusion")
    for k, t in enumerate(expected["t"]):
        terms = bound.terms(expected["x_start"], np.full(4, t), expected["noise"][k])
        for variance, name in GOLDEN_NAMES.items():
            np.testing.assert_allclose(
                terms[variance], expected[f"{name}_vb"][:, k], atol=1e-5
            )


def test_prior_agrees_with_improved_diffusion(bound, golden):
    expected = golden("bpd_improved_diffusion")
    np.testing.assert_allclose(
        bound.prior(expected["x_start"]), expected["fixed_small_prior_bpd"], rtol=1e-3
    )


def test_total_agrees_with_improved_diffusion(bound, golden):
    expected = golden("bpd_improved_diffusion")
    images = np.rint((expected["x_start"] + 1.0) * 127.5).astype("uint8")
    found = bound.measure(images, verbose=0)
    for variance, name in GOLDEN_NAMES.items():
        assert found.terms[variance].shape == (4, 1000)
        # The noise differs.
        assert found.total(variance).mean() == pytest.approx(
            expected[f"{name}_total_bpd_mean"], rel=0.01
        )
    np.testing.assert_allclose(
        found.total(), found.terms["posterior"].sum(1) + found.prior
    )


def test_term_of_an_image_does_not_depend_on_its_batch():
    diffusion = GaussianDiffusion(timesteps=5)
    network = network_of(ExactNoise(diffusion), (2, 4, 1))
    bound = VariationalBound(Denoiser(network, diffusion))
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 4, 1), "uint8")
    whole = bound.measure(images, seed=3, verbose=0)
    parts = bound.measure(images[:3], seed=3, batch_size=2, verbose=0)
    other = bound.measure(images, seed=4, verbose=0)
    for variance, terms in whole.terms.items():
        assert terms.shape == (5, 5)
        np.testing.assert_allclose(
            parts.terms[variance], terms[:3], rtol=1e-4, atol=1e-6
        )
        assert np.abs(other.terms[variance] - terms).max() > 1e-3


def test_one_timestep_is_the_decoder_and_the_prior():
    diffusion = GaussianDiffusion(timesteps=1)
    network = network_of(ExactNoise(diffusion), (2, 2, 3))
    bound = VariationalBound(Denoiser(network, diffusion))
    found = bound.measure(np.full((2, 2, 2, 3), 9, "uint8"), verbose=0)
    np.testing.assert_allclose(found.terms["posterior"], found.terms["beta"])
    assert np.isfinite(found.total()).all()


def test_bound_follows_changed_weights(make_network):
    network = make_network()
    diffusion = GaussianDiffusion(timesteps=3)
    bound = VariationalBound(Denoiser(network, diffusion))
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), "uint8")
    before = bound.measure(images, verbose=0).total()
    network.set_weights([0.5 * w for w in network.get_weights()])
    assert np.abs(bound.measure(images, verbose=0).total() - before).max() > 1e-2


def test_divergence_is_the_integral():
    x = np.linspace(-30.0, 30.0, 60001)

    def log_density(mean, variance):
        return -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance))

    first, second = log_density(0.5, 2.0), log_density(-1.0, 0.7)
    integral = np.trapezoid(np.exp(first) * (first - second), x)
    found = gaussian_divergence(
        *np.float32([0.5, np.log(2.0), -1.0, np.log(0.7)]).reshape(4, 1)
    )
    np.testing.assert_allclose(ops.convert_to_numpy(found), integral, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.002, 0.05, 1.0])
@pytest.mark.parametrize("mean", [-1.1, 0.123, 0.99])
def test_probabilities_of_all_grey_levels_add_up_to_1(mean, scale):
    levels = np.arange(256, dtype="float32") / 127.5 - 1.0
    logs = discretised_log_likelihood(
        ops.convert_to_tensor(levels), np.float32(mean), np.float32(np.log(scale))
    )
    assert np.exp(ops.convert_to_numpy(logs)).sum() == pytest.approx(1.0, abs=1e-4)


def test_probability_of_a_grey_level_is_that_of_the_normal_distribution():
    from scipy.stats import norm

    levels = np.arange(100, 156, dtype="float32") / 127.5 - 1.0
    logs = discretised_log_likelihood(
        ops.convert_to_tensor(levels), np.float32(0.0), np.float32(np.log(0.1))
    )
    exact = norm.cdf((levels + 1 / 255) / 0.1) - norm.cdf((levels - 1 / 255) / 0.1)
    # The papers' tanh formula is off by up to 4e-4.
    np.testing.assert_allclose(np.exp(ops.convert_to_numpy(logs)), exact, atol=8e-4)


@pytest.mark.parametrize("images", [np.zeros((0, 8, 8, 3), "uint8"), np.zeros((2, 8))])
def test_other_than_bytes_are_refused(bound, images):
    with pytest.raises(ArgumentError) as error:
        bound.measure(images)
    assert error.value.keys == ("dtype", "shape")


def test_labels_reach_the_network(make_tiny_unet, randomise):
    diffusion = GaussianDiffusion(timesteps=5)
    network = randomise(make_tiny_unet(num_classes=2))
    bound = VariationalBound(Denoiser(network, diffusion))
    images = np.full((2, 8, 8, 3), 128, "uint8")
    both = bound.measure(images, verbose=0, labels=np.array([0, 1])).total()
    swapped = bound.measure(images, verbose=0, labels=np.array([1, 0])).total()
    without = bound.measure(images, verbose=0).total()
    # The noise of an image stays; its label changes.
    assert np.abs(both - swapped).min() > 1e-4
    assert np.abs(both - without).min() > 1e-4
