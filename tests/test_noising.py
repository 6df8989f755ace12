"""What a training step learns from: labels, augmentation, weights."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import ArgumentError
from ddpm_keras.labels import NO_LABEL
from ddpm_keras.model import DiffusionModel
from ddpm_keras.networks.unet_arguments import AUGMENT_DIM
from ddpm_keras.noising import noisy_batch

INPUTS = {
    "label_input": ((), "int32"),
    "augment_input": ((AUGMENT_DIM,), "float32"),
}


def network_with(*names):
    """A network with these inputs besides images and timesteps, that uses none."""
    image = keras.Input((4, 4, 2), name="image_input")
    inputs = [image, keras.Input((), dtype="int32", name="time_input")]
    for name in names:
        shape, dtype = INPUTS[name]
        inputs.append(keras.Input(shape, dtype=dtype, name=name))
    return keras.Model(inputs, layers.Dense(2)(image))


def noise(data, network, seed=0, **options):
    """Inputs, target and weights as arrays; the target is the clean image."""
    diffusion = GaussianDiffusion(timesteps=50, prediction_type="sample")
    seeds = keras.random.SeedGenerator(seed)
    inputs, target, weights = noisy_batch(data, network, diffusion, seeds, **options)
    inputs = [ops.convert_to_numpy(tensor) for tensor in inputs]
    weights = None if weights is None else ops.convert_to_numpy(weights)
    return inputs, ops.convert_to_numpy(target), weights


def images(count=3):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (count, 4, 4, 2)).astype("float32")


def test_labels_are_hidden_as_often_as_asked():
    """Of 4,000: the standard error is 0.007."""
    data = images(4000), np.arange(4000) % 7
    network = network_with("label_input")
    (_, _, labels), _, _ = noise(data, network, label_dropout=0.25)
    hidden = labels == NO_LABEL
    assert abs(hidden.mean() - 0.25) < 0.03
    np.testing.assert_array_equal(labels[~hidden], data[1][~hidden])
    # Every label alike, and not with the timestep.
    shares = np.bincount(data[1][hidden], minlength=7) / hidden.sum()
    assert abs(shares - 1 / 7).max() < 0.05
    (_, t, again), _, _ = noise(data, network, label_dropout=0.25, seed=1)
    assert (labels != again).mean() > 0.2
    assert abs(np.corrcoef(again == NO_LABEL, t)[0, 1]) < 0.08


def test_labels_are_kept_without_dropout():
    network = network_with("label_input")
    (x, t, labels), target, weights = noise((images(), np.array([2, 0, 1])), network)
    assert labels.tolist() == [2, 0, 1] and labels.dtype == np.int32
    np.testing.assert_array_equal(target, images())
    assert weights is None
    # A column of labels, as Keras makes of a list of them.
    (_, _, labels), _, _ = noise((images(), np.array([[2], [0], [1]])), network)
    assert labels.tolist() == [2, 0, 1]


def test_a_network_without_labels_ignores_them():
    (x, t), _, _ = noise((images(), np.array([2, 0, 1])), network_with())
    (alone, _), _, _ = noise((images(),), network_with())
    np.testing.assert_array_equal(x, alone)


def test_labels_are_asked_for():
    with pytest.raises(ArgumentError) as error:
        noise((images(),), network_with("label_input"))
    assert str(error.value) == (
        "The network takes labels: give `(images, labels)`. Received: labels=None"
    )


def test_network_is_told_how_its_images_were_changed(monkeypatch):
    """Inputs, target and vector are of the changed images, in the network's order."""
    told = []

    def halve(x, uniform, normal, probability):
        told.append((uniform.shape, normal.shape, probability))
        return 0.5 * x, ops.ones((3, AUGMENT_DIM))

    monkeypatch.setattr("ddpm_keras.noising.augment", halve)
    for names in (
        ("label_input", "augment_input"),
        ("augment_input", "label_input"),
    ):
        data = images(), np.array([2, 0, 1])
        inputs, target, _ = noise(data, network_with(*names), augment_probability=0.3)
        by_name = dict(zip(names, inputs[2:], strict=True))
        assert by_name["label_input"].tolist() == [2, 0, 1]
        assert (by_name["augment_input"] == 1).all()
        np.testing.assert_array_equal(target, 0.5 * images())
        assert told.pop() == ((3, 12), (3, 4), 0.3)


def test_images_are_changed_at_random():
    network = network_with("augment_input")
    (x, t, vector), target, _ = noise((images(),), network, augment_probability=1.0)
    assert np.abs(vector).max(axis=1).min() > 0.01
    assert np.abs(target - images()).max() > 0.1
    (_, _, vector), target, _ = noise((images(),), network, augment_probability=0.0)
    np.testing.assert_array_equal(vector, np.zeros((3, AUGMENT_DIM)))
    np.testing.assert_array_equal(target, images())


def test_evaluation_neither_changes_images_nor_hides_labels():
    network = network_with("label_input", "augment_input")
    diffusion = GaussianDiffusion(timesteps=50, prediction_type="sample")
    model = DiffusionModel(
        network, diffusion=diffusion, augment=1.0, label_dropout=0.9, snr_gamma=1.0
    )
    data = images(20), np.zeros(20, "int32")
    found = {}
    for training in (True, False):
        inputs, target, weights = model.before_step(data, training)
        _, _, labels, vector = (ops.convert_to_numpy(tensor) for tensor in inputs)
        same = (ops.convert_to_numpy(target) == data[0]).all()
        found[training] = (same, labels.min(), vector.any(), weights is None)
    assert found == {True: (False, -1, True, False), False: (True, 0, False, True)}


def test_weights_have_a_number_for_each_image():
    given = np.float32([1.0, 2.0, 4.0])
    data = images(), np.zeros(3), given
    (_, t), _, plain = noise(data, network_with())
    np.testing.assert_array_equal(plain, given.reshape(3, 1, 1))
    (_, again), _, weighted = noise(data, network_with(), snr_gamma=0.1)
    np.testing.assert_array_equal(again, t)
    diffusion = GaussianDiffusion(timesteps=50, prediction_type="sample")
    wanted = given * diffusion.loss_weights(0.1)[t]
    np.testing.assert_allclose(weighted, wanted.reshape(3, 1, 1), rtol=1e-6)
