"""`memorisation`: copies are flagged, new images are not."""

from types import SimpleNamespace

import numpy as np
import pytest

from ddpm_keras.data.flowers import draw_flowers
from ddpm_keras.errors import ArgumentError
from ddpm_keras.metrics import distances
from ddpm_keras.metrics.copies import memorisation
from ddpm_keras.metrics.evaluation import count_by_class


@pytest.fixture(scope="module")
def images():
    """Random images of 12x12 pixels, of which the upper half is the same in each."""
    images = np.random.default_rng(0).integers(0, 256, (300, 12, 12, 1), "uint8")
    images[:, :6] = 100
    return images


def flat(images):
    return images.reshape(len(images), -1)


def test_nearest_and_ratio_agree_with_loops(monkeypatch, images):
    monkeypatch.setattr(distances, "BLOCK", 7)
    training, samples = flat(images[:40]), flat(images[40:60])
    found = memorisation(training, samples)
    for i, sample in enumerate(samples):
        gaps = [np.linalg.norm(sample - row.astype(float)) for row in training]
        j = int(np.argmin(gaps))
        own = [
            np.linalg.norm(training[j] - row.astype(float))
            for k, row in enumerate(training)
            if k != j
        ]
        assert found.nearest[i] == j
        assert found.distances[i] == pytest.approx(gaps[j], rel=1e-12)
        assert found.ratios[i] == pytest.approx(gaps[j] / min(own), rel=1e-12)
    assert not found.is_mirrored.any()
    assert found.closer == np.mean(found.ratios < 1.0)
    assert found.copies == 0.0


def test_copies_are_flagged(images):
    training = flat(images[:200])
    copies = training[[5, 0, 199, 5]]
    found = memorisation(training, copies)
    np.testing.assert_array_equal(found.nearest, [5, 0, 199, 5])
    np.testing.assert_array_equal(found.distances, 0.0)
    assert (found.closer, found.copies, found.copies_expected) == (1.0, 1.0, 0.0)


def test_noisy_copies_are_flagged(images):
    rng = np.random.default_rng(1)
    training = flat(images[:200])
    noisy = training[:50] + rng.normal(0.0, 10.0, (50, 144))
    found = memorisation(training, noisy)
    np.testing.assert_array_equal(found.nearest, np.arange(50))
    assert found.copies == 1.0


def test_copies_are_flagged_where_the_training_images_have_duplicates(images):
    training = flat(np.concatenate([images[:100], images[:100]]))
    found = memorisation(training, training[:30])
    assert found.copies == 1.0
    fresh = memorisation(training, flat(images[200:300]))
    assert fresh.copies == 0.0


def over_shifts(image, other):
    """The smallest distance of two images, in loops over shifts of two pixels."""
    height, width = image.shape[:2]
    middle = other[2:-2, 2:-2].astype(float)
    return min(
        np.linalg.norm(image[y : height - 4 + y, x : width - 4 + x] - middle)
        for y in range(5)
        for x in range(5)
    )


@pytest.mark.parametrize("num_training", [6, 40])  # fewer than candidates, and more
def test_distances_of_images_agree_with_loops_over_shifts(monkeypatch, num_training):
    monkeypatch.setattr(distances, "BLOCK", 7)
    images = draw_flowers(num_training + 9, 24)
    training, samples = images[:num_training], images[num_training:]
    found = memorisation(training, samples)
    for i, sample in enumerate(samples):
        gaps = [over_shifts(sample, other) for other in training]
        j = found.nearest[i]
        assert found.distances[i] == pytest.approx(gaps[j], rel=1e-12)
        assert gaps[j] == pytest.approx(min(gaps), rel=1e-12)
        own = [over_shifts(training[j], o) for k, o in enumerate(training) if k != j]
        assert found.ratios[i] == pytest.approx(gaps[j] / min(own), rel=1e-12)


@pytest.mark.parametrize("mirrors", [False, True])
@pytest.mark.parametrize("shift, share", [((1, -2), 1.0), ((0, 8), 0.0)])
def test_shifted_copies_are_flagged(mirrors, shift, share):
    training = draw_flowers(100, 24)
    mirrored = training[:, :, ::-1]
    copies = np.roll((mirrored if mirrors else training)[:30], shift, axis=(1, 2))
    found = memorisation(training, copies, mirrored)
    assert found.copies == share and found.copies_expected == 0.0
    if share:
        np.testing.assert_array_equal(found.nearest, np.arange(30))
        np.testing.assert_array_equal(found.distances, 0.0)
        assert (found.is_mirrored == mirrors).all()


def test_mirrored_copies_are_flagged_where_training_mirrors(images):
    training, mirrored = images[:100], images[:100, :, ::-1]
    samples = flat(mirrored[:20])
    found = memorisation(flat(training), samples, flat(mirrored))
    np.testing.assert_array_equal(found.nearest, np.arange(20))
    assert found.is_mirrored.all() and found.copies == 1.0
    assert found.copies_expected == 0.0
    assert memorisation(flat(training), samples).copies == 0.0


def test_new_images_are_as_close_as_expected():
    rng = np.random.default_rng(0)
    training, fresh = rng.normal(size=(1500, 3)), rng.normal(size=(1500, 3))
    found = memorisation(training, fresh)
    # Two shares of 1,500 differ by more than 0.06 in only one of 1,000 cases.
    assert found.closer == pytest.approx(found.closer_expected, abs=0.06)
    assert found.copies == pytest.approx(found.copies_expected, abs=0.06)
    assert 0.4 < found.closer < 0.8


def test_too_few_training_images_are_refused():
    with pytest.raises(ArgumentError) as error:
        memorisation(np.zeros((2, 4)), np.zeros((5, 4)))
    assert error.value.keys == ("training",)


def test_samples_near_to_training_images_are_counted_by_class():
    findings = {"pixels": SimpleNamespace(ratios=np.array([0.1, 0.7, 2.0]))}
    assert count_by_class(findings, np.array([2, 0, 2]), ["a", "b", "c"]) == {
        "a": {"samples": 1, "closer in pixels": 1, "copies in pixels": 0},
        "c": {"samples": 2, "closer in pixels": 1, "copies in pixels": 1},
    }
