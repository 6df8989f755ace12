"""Whitening: principal components with variance 1, of the real images alone."""

import numpy as np
import pytest

from ddpm_keras.metrics.whitening import whitening


def draw(number, seed, dims=80):
    """Features with very different variances, in directions that are not the axes."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(dims, dims))
    scales = np.geomspace(100.0, 1e-2, dims)
    return rng.normal(size=(number, dims)) * scales @ mixing + 5.0


def test_real_images_get_mean_0_and_variance_1():
    real = draw(1000, seed=1)
    found = whitening(real)(real)
    assert found.shape == (1000, 64)
    np.testing.assert_allclose(found.mean(0), 0.0, atol=1e-8)
    np.testing.assert_allclose(found.T @ found / 1000, np.eye(64), atol=1e-8)


def test_components_are_the_leading_ones():
    real = draw(1000, seed=1)
    variances, axes = np.linalg.eigh(np.cov(real.T, bias=True))
    other = draw(7, seed=2)
    expected = (other - real.mean(0)) @ axes[:, :-65:-1] / variances[:-65:-1] ** 0.5
    signs = np.sign(np.sum(expected * whitening(real)(other), axis=0))
    np.testing.assert_allclose(whitening(real)(other), expected * signs, rtol=1e-6)


@pytest.mark.parametrize("number, components", [(2, 1), (24, 6), (255, 63), (300, 64)])
def test_few_images_give_few_components(number, components):
    assert whitening(draw(number, 1))(draw(3, 2)).shape == (3, components)


def test_equal_images_give_finite_features():
    real = np.ones((40, 5))
    assert np.isfinite(whitening(real)(draw(3, 0, dims=5))).all()
    real[:20, 0] = 2.0  # a single direction has variance
    assert whitening(real)(real).shape == (40, 1)
