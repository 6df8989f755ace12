"""Starts of the reverse process: between seeds, between images, from an image."""

import numpy as np
import pytest

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.starts import blend, diffuse, slerp

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
