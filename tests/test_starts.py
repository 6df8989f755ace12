"""Starts of the reverse process: between seeds, between images, from an image."""

import numpy as np
import pytest

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.starts import (
    between_images,
    between_seeds,
    blend,
    diffuse,
    from_image,
    slerp,
)

RNG = np.random.default_rng(0)
FIRST, SECOND = RNG.normal(size=(2, 16, 16, 3)).astype("float32")


def test_slerp_ends_at_both_ends():
    path = slerp(FIRST, SECOND, [0.0, 0.5, 1.0])
    assert path.dtype == "float32"
    np.testing.assert_allclose(path[0], FIRST, atol=1e-6)
    np.testing.assert_allclose(path[2], SECOND, atol=1e-6)


def test_slerp_keeps_the_variance_that_a_straight_line_loses():
    middle = slerp(FIRST, SECOND, [0.5])[0]
    assert middle.std() == pytest.approx(1.0, abs=0.05)
    assert blend(FIRST, SECOND, [0.5])[0].std() == pytest.approx(0.5**0.5, abs=0.05)


def test_slerp_between_equal_noises_stays_there():
    np.testing.assert_allclose(slerp(FIRST, FIRST, [0.3])[0], FIRST, atol=1e-6)


def test_blend_is_linear():
    np.testing.assert_allclose(
        blend(FIRST, SECOND, [0.25])[0], 0.75 * FIRST + 0.25 * SECOND, atol=1e-6
    )


def test_diffuse_is_q_sample_at_one_timestep():
    diffusion = GaussianDiffusion()
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[400]
    expected = np.sqrt(abar) * FIRST + np.sqrt(1 - abar) * SECOND
    found = diffuse(FIRST[None], diffusion, 400, SECOND[None])
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


class Process:
    """What the starts take of a `ReverseProcess`."""

    diffusion = GaussianDiffusion()

    def noise(self, seeds):
        draws = [np.random.default_rng(int(k)).normal(size=(4, 6, 3)) for k in seeds]
        return np.float32(draws)


def test_between_seeds_begins_and_ends_at_their_noise():
    start = between_seeds(Process(), 3, 8, 5)
    np.testing.assert_allclose(
        start(np.array([4, 0])), Process().noise([8, 3]), atol=1e-6
    )
    # Halfway is noise as strong as at the ends, as far from the one as from the other.
    assert start(np.array([2])).std() == pytest.approx(1, abs=0.2)
    middle, (first, last) = start(np.array([2]))[0], Process().noise([3, 8])
    assert np.sum(middle * first) / np.sum(first**2) == pytest.approx(
        np.sum(middle * last) / np.sum(last**2), rel=0.2
    )


def test_between_images_mixes_them_under_one_noise():
    first, last = RNG.uniform(-1, 1, (2, 4, 6, 3)).astype("float32")
    start = between_images(Process(), first, last, 300, 7, 3)
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[300]
    noise = np.sqrt(1 - abar) * Process().noise([7])
    mixed = np.stack([first, (first + last) / 2, last])
    expected = np.sqrt(abar) * mixed + noise
    np.testing.assert_allclose(start(np.arange(3)), expected, atol=1e-5)


def test_from_image_diffuses_it_with_the_noise_of_each_seed():
    image = RNG.uniform(-1, 1, (4, 6, 3)).astype("float32")
    start = from_image(Process(), image, 300, [5, 6, 7])
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[300]
    expected = np.sqrt(abar) * image + np.sqrt(1 - abar) * Process().noise([7, 5])
    np.testing.assert_allclose(start(np.array([2, 0])), expected, atol=1e-5)
