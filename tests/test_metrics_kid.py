"""`kernel_distance`, against plain loops, closed forms and redrawn sets."""

import numpy as np
import pytest

from ddpm_keras.errors import ArgumentError
from ddpm_keras.metrics import distances
from ddpm_keras.metrics.kid import kernel_distance


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


def variance_by_loops(x, y):
    """The jackknife less the variance of pairs, from their definitions."""
    sets = (x, y)
    jackknife = 0.0
    for k in (0, 1):
        size = len(sets[k])
        left_out = []
        for i in range(size):
            rest = list(sets)
            rest[k] = np.delete(sets[k], i, axis=0)
            left_out.append(by_loops(*rest))
        jackknife += (size - 1) * np.var(left_out)
    of_pairs = 0.0
    for a, b, factor in ((x, x, 2.0), (y, y, 2.0), (x, y, 4.0)):
        kernel = (a @ b.T / a.shape[1] + 1.0) ** 3
        off = ~np.eye(len(a), dtype=bool) if a is b else np.ones(kernel.shape, bool)
        rows = (kernel * off).sum(1) / off.sum(1)
        columns = (kernel * off).sum(0) / off.sum(0)
        square = np.mean(kernel[off] ** 2) + np.mean(kernel[off]) ** 2
        interaction = square - np.mean(rows**2) - np.mean(columns**2)
        of_pairs += factor * interaction / off.sum()
    return max(jackknife - of_pairs, of_pairs)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_agrees_with_loops(monkeypatch, shift):
    monkeypatch.setattr(distances, "BLOCK", 7)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 5)), rng.normal(size=(16, 5)) + shift
    distance = kernel_distance(x, y)
    assert distance.mean == pytest.approx(by_loops(x, y), rel=1e-10)
    assert distance.standard_error**2 == pytest.approx(variance_by_loops(x, y))


def test_shifted_gaussians_have_the_closed_form():
    # In one dimension k(x, y) = (x y + 1)^3, so the squared discrepancy is the sum of
    # binomial(3, i) (E x^i - E y^i)^2: here of N(0, 1) and N(1, 1).
    expected = 3.0 * 1.0**2 + 3.0 * (2.0 - 1.0) ** 2 + (4.0 - 0.0) ** 2
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4000, 1)), rng.normal(size=(4000, 1)) + 1.0
    distance = kernel_distance(x, y)
    assert distance.standard_error < 2.0
    assert abs(distance.mean - expected) < 3.0 * distance.standard_error


def test_a_set_and_itself_are_0_apart_but_for_the_pairs_of_equals():
    # k(a, a) counts between the sets but not within them, which leaves 2 / n (mean off
    # the diagonal - mean on it).
    x = np.random.default_rng(0).normal(size=(400, 8))
    kernel = (x @ x.T / 8 + 1.0) ** 3
    diagonal = np.trace(kernel) / 400
    others = (kernel.sum() - np.trace(kernel)) / (400 * 399)
    expected = 2.0 / 400 * (others - diagonal)
    assert kernel_distance(x, x).mean == pytest.approx(expected, rel=1e-10)


# A shift of 0.1 is where pairs and single images matter as much.
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("sizes", [(100, 100), (60, 300)])
def test_standard_error_is_the_spread_of_redrawn_sets(shift, sizes):
    rng = np.random.default_rng(0)
    found = [
        kernel_distance(
            rng.normal(size=(sizes[0], 64)), rng.normal(size=(sizes[1], 64)) + shift
        )
        for _ in range(300)
    ]
    means = np.array([distance.mean for distance in found])
    errors = np.array([distance.standard_error for distance in found])
    assert 0.85 < means.std(ddof=1) / errors.mean() < 1.15
    if shift == 0.0:  # unbiased
        assert abs(means.mean()) < 4.0 * means.std() / np.sqrt(300)


@pytest.mark.parametrize(
    "shapes", [((3, 5), (9, 5)), ((9, 5), (3, 5)), ((9, 3), (9, 4))]
)
def test_sets_that_cannot_be_compared_are_refused(shapes):
    with pytest.raises(ArgumentError) as error:
        kernel_distance(*map(np.zeros, shapes))
    assert error.value.keys == ("features_1", "features_2")
