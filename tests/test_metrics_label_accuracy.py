"""`label_accuracy`, on features whose classes are known."""

import sys

import numpy as np
import pytest

from ddpm_keras.errors import ArgumentError, InputError
from ddpm_keras.metrics.label_accuracy import label_accuracy


def clusters(number, seed, spread=1.0):
    """Features of three classes around corners, far apart in units of `spread`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, number) + 5
    centres = 20.0 * np.eye(3, 8)
    return centres[labels - 5] + spread * rng.normal(size=(number, 8)), labels


def test_share_is_that_of_samples_with_their_label():
    pytest.importorskip("sklearn", reason="needs pip install -e .[judge]")
    features, labels = clusters(100, seed=1)
    asked = labels.copy()
    asked[:20] = (asked[:20] - 5 + 1) % 3 + 5  # every one of these is another class
    found = label_accuracy(*clusters(300, seed=0), features, asked)
    assert found.share == 0.8
    assert found.standard_error == pytest.approx(0.04)
    assert found.held_out_share is None and found.held_out_error is None


def test_held_out_images_stand_beside_samples():
    pytest.importorskip("sklearn", reason="needs pip install -e .[judge]")
    training, held_out = clusters(300, seed=0), clusters(50, seed=1)
    noise = np.random.default_rng(2).normal(size=(300, 8)), held_out[1][:1].repeat(300)
    found = label_accuracy(*training, *noise, *held_out)
    assert found.held_out_share == 1.0 and found.held_out_error == 0.0
    assert 0.0 < found.share < 1.0


def test_scale_of_a_feature_does_not_matter():
    pytest.importorskip("sklearn", reason="needs pip install -e .[judge]")
    training, samples = clusters(200, 0, spread=12.0), clusters(200, 1, spread=12.0)
    scale = np.array([1e-3, 1e3, 1, 1, 1, 1, 1, 1])
    plain = label_accuracy(*training, *samples)
    scaled = label_accuracy(
        training[0] * scale, training[1], samples[0] * scale, samples[1]
    )
    assert plain.share == scaled.share and 0.5 < plain.share < 1.0


def test_labels_that_do_not_fit_are_refused():
    pytest.importorskip("sklearn", reason="needs pip install -e .[judge]")
    features, labels = clusters(30, 0)
    with pytest.raises(ArgumentError) as error:
        label_accuracy(features, labels * 0, features, labels)
    assert error.value.keys == ("classes",)
    for number in (0, 29):
        with pytest.raises(ArgumentError) as error:
            label_accuracy(features, labels, features[:number], labels)
        assert error.value.keys == ("features", "labels")


def test_missing_scikit_learn_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(
        InputError, match=r"scikit-learn; install it with pip .*\[judge"
    ):
        label_accuracy(*clusters(30, 0), *clusters(10, 1))
