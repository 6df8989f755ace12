"""`kernel_distance`, against plain loops and closed forms."""

import numpy as np
import pytest

from ddpm_keras.errors import ArgumentError
from ddpm_keras.metrics import distances
from ddpm_keras.metrics.kid import kernel_distance, squared_discrepancies


def by_loops(x, y):
    """Equation 4 of Bińkowski et al. 2018, one pair after another."""

    def kernel(a, b):
        return (float(np.dot(a, b)) / len(a) + 1.0) ** 3

    def mean_within(z):
        pairs = [
            kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j
        ]
        return sum(pairs) / len(pairs)

    between = [kernel(a, b) for a in x for b in y]
    return mean_within(x) + mean_within(y) - 2.0 * sum(between) / len(between)


def test_agrees_with_loops_over_each_subset(monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", 7)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 5)), rng.normal(size=(16, 5)) + 0.5
    in_x, in_y = np.zeros((20, 3)), np.zeros((16, 3))
    for k, (rows_x, rows_y) in enumerate([(20, 16), (2, 9), (13, 2)]):
        in_x[:rows_x, k] = 1.0
        in_y[16 - rows_y :, k] = 1.0
    np.testing.assert_allclose(
        squared_discrepancies(x, y, in_x, in_y),
        [by_loops(x, y), by_loops(x[:2], y[-9:]), by_loops(x[:13], y[-2:])],
        rtol=1e-10,
    )


def test_shifted_gaussians_have_the_closed_form():
    # In one dimension k(x, y) = (x y + 1)^3, so the squared discrepancy is the sum of
    # binomial(3, i) (E x^i - E y^i)^2: here of N(0, 1) and N(1, 1).
    expected = 3.0 * 1.0**2 + 3.0 * (2.0 - 1.0) ** 2 + (4.0 - 0.0) ** 2
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4000, 1)), rng.normal(size=(4000, 1)) + 1.0
    distance = kernel_distance(x, y)
    assert distance.subset_size == 1000
    assert distance.standard_error < 2.0
    assert abs(distance.mean - expected) < 3.0 * distance.standard_error


def test_sets_of_one_distribution_are_0_apart_within_the_error():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 400, 8))
    distance = kernel_distance(x, y)
    assert abs(distance.mean) < 3.0 * distance.standard_error < 0.2


def test_a_set_and_itself_are_0_apart_but_for_the_pairs_of_equals():
    # k(a, a) counts between the sets but not within them, which leaves 2 / n (mean off
    # the diagonal - mean on it).
    x = np.random.default_rng(0).normal(size=(400, 8))
    kernel = (x @ x.T / 8 + 1.0) ** 3
    diagonal = np.trace(kernel) / 400
    others = (kernel.sum() - np.trace(kernel)) / (400 * 399)
    distance = kernel_distance(x, x)
    expected = 2.0 / 400 * (others - diagonal)
    assert abs(distance.mean - expected) < 3.0 * distance.standard_error
    assert abs(distance.mean) < 0.05


def test_standard_error_is_the_spread_of_new_sets():
    # For shifted sets the estimate is linear in the data to first order, as the
    # jackknife assumes.
    rng = np.random.default_rng(0)
    found = [
        kernel_distance(rng.normal(size=(200, 4)), rng.normal(size=(200, 4)) + 0.7)
        for _ in range(60)
    ]
    spread = np.std([distance.mean for distance in found])
    errors = np.mean([distance.standard_error for distance in found])
    assert 0.7 < errors / spread < 1.4


def test_expectation_does_not_depend_on_the_subset_size():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 4)), rng.normal(size=(500, 4)) + 0.5
    small = kernel_distance(x, y, subset_size=20, num_subsets=2000)
    large = kernel_distance(x, y, subset_size=250)
    assert abs(small.mean - large.mean) < 0.1 * large.mean


@pytest.mark.parametrize("size", [1, 10, 11])
def test_too_few_images_for_a_subset_are_refused(size):
    with pytest.raises(ArgumentError) as error:
        kernel_distance(np.zeros((10, 3)), np.zeros((20, 3)), subset_size=size)
    assert str(error.value) == (
        "`subset_size` must be at least 2 and below the number of images of the "
        f"smaller set, 10. Received: subset_size={size}"
    )


def test_features_of_another_length_are_refused():
    with pytest.raises(ArgumentError) as error:
        kernel_distance(np.zeros((9, 3)), np.zeros((9, 4)))
    assert error.value.keys == ("x", "y")
