"""Precision, recall, density and coverage, against their definitions in loops."""

import dataclasses

import numpy as np
import pytest

from ddpm_keras.errors import ArgumentError
from ddpm_keras.metrics import distances
from ddpm_keras.metrics.prdc import overlap


def by_loops(real, samples, k):
    def radius(points, i):
        others = [np.linalg.norm(points[i] - q) for j, q in enumerate(points) if j != i]
        return sorted(others)[k - 1]

    real_radii = [radius(real, i) for i in range(len(real))]
    sample_radii = [radius(samples, j) for j in range(len(samples))]
    in_real = np.zeros((len(real), len(samples)), bool)
    in_sample = np.zeros((len(real), len(samples)), bool)
    for i, r in enumerate(real):
        for j, s in enumerate(samples):
            distance = np.linalg.norm(r - s)
            in_real[i, j] = distance <= real_radii[i]
            in_sample[i, j] = distance <= sample_radii[j]
    return {
        "precision": in_real.any(0).mean(),
        "recall": in_sample.any(1).mean(),
        "density": in_real.sum() / (k * len(samples)),
        "coverage": in_real.any(1).mean(),
    }


@pytest.mark.parametrize("k, num_real, num_samples", [(1, 30, 30), (3, 25, 40)])
def test_agrees_with_loops(monkeypatch, k, num_real, num_samples):
    monkeypatch.setattr(distances, "BLOCK", 8)
    rng = np.random.default_rng(k)
    real = rng.normal(size=(num_real, 3))
    samples = 0.7 * rng.normal(size=(num_samples, 3)) + 0.8
    found = dataclasses.asdict(overlap(real, samples, k))
    assert found == pytest.approx(by_loops(real, samples, k), abs=1e-12)
    assert len(set(found.values())) == 4 and 0 < found["coverage"] < 1


def test_equal_sets_overlap_wholly():
    features = np.random.default_rng(0).normal(size=(50, 4))
    found = overlap(features, features)
    assert (found.precision, found.recall, found.coverage) == (1.0, 1.0, 1.0)


def test_sets_of_one_distribution_have_the_expected_density_and_coverage():
    rng = np.random.default_rng(0)
    found = overlap(*rng.normal(size=(2, 1500, 4)), k=3)
    # Naeem et al. 2020, section 3.2, for many images: 1 and 1 - 2^-k.
    assert found.density == pytest.approx(1.0, abs=0.05)
    assert found.coverage == pytest.approx(1.0 - 2.0**-3, abs=0.03)


def test_sets_far_apart_do_not_overlap():
    features = np.random.default_rng(0).normal(size=(50, 4))
    found = overlap(features, features + 100.0)
    assert set(dataclasses.asdict(found).values()) == {0.0}


def test_samples_of_one_part_are_precise_and_cover_little():
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(size=(50, 2)), rng.normal(size=(50, 2)) + 50.0])
    found = overlap(real, rng.normal(size=(100, 2)))
    assert found.precision > 0.8 and found.recall <= 0.5 and found.coverage <= 0.5


def test_too_few_images_are_refused():
    with pytest.raises(ArgumentError) as error:
        overlap(np.zeros((5, 2)), np.zeros((9, 2)))
    assert error.value.keys == ("real_features", "sample_features")
