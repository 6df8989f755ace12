"""`frechet_distance`, against scipy and closed forms."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from ddpm_keras.errors import ArgumentError
from ddpm_keras.metrics.fid import frechet_distance


def by_matrix_root(x, y):
    """Equation 6 of Heusel et al. 2017 as it stands."""
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    difference = x.mean(0) - y.mean(0)
    root = sqrtm(first @ second).real
    return difference @ difference + np.trace(first + second - 2.0 * root)


@pytest.mark.parametrize("num_1, num_2", [(300, 200), (12, 300), (9, 7)])
def test_agrees_with_the_matrix_root(num_1, num_2):
    # With fewer images than dims the covariance is singular, and scipy's root has only
    # half of its digits right.
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_1, 10)) @ rng.normal(size=(10, 10))
    y = rng.normal(size=(num_2, 10)) @ rng.normal(size=(10, 10)) + 1.0
    tolerance = 1e-9 if min(num_1, num_2) > 10 else 1e-5
    np.testing.assert_allclose(
        frechet_distance(x, y), by_matrix_root(x, y), rtol=tolerance
    )
    np.testing.assert_allclose(
        frechet_distance(y, x), frechet_distance(x, y), rtol=1e-12
    )


def test_shifted_and_scaled_set_has_the_closed_form():
    x = np.random.default_rng(0).normal(size=(500, 6))
    shift = np.arange(6.0)
    # S_2 = 9 S_1, so the traces add up to tr(S_1) (1 + 9 - 2 * 3).
    mean = 2.0 * x.mean(0) + shift
    expected = mean @ mean + 4.0 * np.trace(np.cov(x, rowvar=False))
    np.testing.assert_allclose(frechet_distance(x, 3.0 * x + shift), expected)


@pytest.mark.parametrize("number", [400, 5])
def test_equal_sets_are_0_apart(number):
    x = np.random.default_rng(0).normal(size=(number, 20))
    assert abs(frechet_distance(x, x)) < 1e-10


def test_bias_falls_with_more_images():
    rng = np.random.default_rng(0)
    distances = [
        frechet_distance(*rng.normal(size=(2, number, 20)))
        for number in (50, 200, 800, 3200)
    ]
    # In proportion to 1 / number once there are many more images than dims.
    assert distances == sorted(distances, reverse=True)
    assert 3.0 < distances[2] / distances[3] < 5.0


@pytest.mark.parametrize("shapes", [((1, 3), (5, 3)), ((5, 3), (5, 4)), ((5,), (5,))])
def test_sets_that_cannot_be_compared_are_refused(shapes):
    with pytest.raises(ArgumentError) as error:
        frechet_distance(*map(np.zeros, shapes))
    assert error.value.keys == ("features_1", "features_2")
