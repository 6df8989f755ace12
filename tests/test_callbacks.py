"""Pictures of samples and saved weights, between epochs."""

import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from safetensors.numpy import load_file

from ddpm_keras.callbacks import SampleGrid, SaveWeights
from ddpm_keras.config import Config
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.images import make_grid
from ddpm_keras.model import DiffusionModel
from ddpm_keras.petals import draw_flowers
from ddpm_keras.weights import read_config

CONFIG = Config(dataset_name="petals", seed=3)


class FakeModel:
    """Keeps what it was asked for, and paints everything in one value."""

    def __init__(self):
        self.asked = []
        self.value = 0.0

    def generate_images(self, **options):
        self.asked.append(options)
        return np.full((options["num_images"], 4, 4, 3), self.value, "float32")


def run(callback, model, epochs):
    """What `fit` does with a callback."""
    callback.set_model(model)
    callback.set_params({"epochs": epochs})
    callback.on_train_begin()
    for epoch in range(epochs):
        callback.on_epoch_end(epoch, {"loss": 1.0})
    callback.on_train_end()


def tiny_model():
    """A network of one convolution, which is quickly compiled."""
    image = keras.Input((8, 8, 3), name="image_input")
    time = keras.Input((), dtype="int32", name="time_input")
    scale = keras.layers.Rescaling(0.1)(keras.layers.Reshape((1, 1, 1))(time))
    noise = keras.layers.Conv2D(3, 3, padding="same")(image + scale)
    network = keras.Model([image, time], noise)
    diffusion = GaussianDiffusion(timesteps=10)
    return DiffusionModel(network, None, diffusion, ema=0.9, seed=0)


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return tiny_model()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# SampleGrid.


@pytest.mark.parametrize(
    "every, epochs, wanted",
    [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (2, 4, [2, 4]), (10, 3, [3])],
)
def test_grids_come_every_few_epochs_and_at_the_last(tmp_path, every, epochs, wanted):
    callback = SampleGrid(tmp_path / "samples", every=every, num_images=3)
    run(callback, FakeModel(), epochs)
    assert names(tmp_path / "samples") == [f"epoch-{n:04d}.png" for n in wanted]
    assert all(callback.path(n).is_file() for n in wanted)


def test_grids_never_come_when_every_is_0(tmp_path):
    model = FakeModel()
    run(SampleGrid(tmp_path / "samples", every=0), model, 3)
    assert model.asked == []
    assert not (tmp_path / "samples").exists()


def test_grid_shows_the_samples_of_that_epoch(tmp_path):
    callback, model = SampleGrid(tmp_path, every=1, num_images=5), FakeModel()
    callback.set_model(model)
    callback.set_params({"epochs": 2})
    for epoch, model.value in enumerate((-1.0, 0.5)):
        callback.on_epoch_end(epoch)
        wanted = make_grid(np.full((5, 4, 4, 3), model.value))
        with Image.open(tmp_path / f"epoch-{epoch + 1:04d}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), wanted)


def test_options_and_seed_are_the_same_each_time(tmp_path):
    model = FakeModel()
    options = {"num_images": 2, "seed": 5, "sampler": "ddim", "steps": 7}
    run(SampleGrid(tmp_path, every=1, **options), model, 2)
    assert model.asked == [{**options, "verbose": 0}] * 2


def test_same_weights_give_the_same_bytes_and_others_do_not(tmp_path, model):
    callback = SampleGrid(tmp_path, every=1, num_images=2, seed=1)
    callback.set_model(model)
    callback.set_params({"epochs": 4})

    def grid(epoch):
        callback.on_epoch_end(epoch)
        return callback.path(epoch + 1).read_bytes()

    first = grid(0)
    keras.random.normal((3,))  # the global state has no say
    np.random.random()
    assert grid(1) == first
    # It is the average that samples.
    model.network.set_weights([2 * w for w in model.network.get_weights()])
    assert grid(2) == first
    model.ema_network.set_weights(model.network.get_weights())
    assert grid(3) != first


def test_grid_is_shown_in_a_notebook(tmp_path, monkeypatch):
    shown = []
    display = types.ModuleType("IPython.display")
    display.Image = lambda path: path
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    run(SampleGrid(tmp_path, every=2), FakeModel(), 4)
    assert shown == [str(tmp_path / f"epoch-000{n}.png") for n in (2, 4)]


# SaveWeights.


@pytest.mark.parametrize(
    "every, epochs, wanted",
    [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (10, 3, [3])],
)
def test_weights_are_saved_every_few_epochs_and_at_the_last(
    tmp_path, model, every, epochs, wanted
):
    path = tmp_path / "weights.safetensors"
    callback = SaveWeights(path, CONFIG, every=every)
    callback.set_model(model)
    callback.set_params({"epochs": epochs})
    saved = []
    for epoch in range(epochs):
        callback.on_epoch_end(epoch)
        if path.exists():
            saved.append(epoch + 1)
            path.unlink()
    assert saved == wanted


def test_averaged_weights_are_saved_and_the_last_ones_stay(tmp_path, model):
    path = tmp_path / "weights.safetensors"
    callback = SaveWeights(path, CONFIG, every=1)
    callback.set_model(model)
    callback.set_params({"epochs": 2})
    for epoch in range(2):
        for number, network in enumerate((model.network, model.ema_network)):
            value = 10 * epoch + number
            network.set_weights([np.full(w.shape, value) for w in network.weights])
        callback.on_epoch_end(epoch)
        arrays = load_file(path)
        assert set(arrays) == {w.path for w in model.ema_network.weights}
        assert all((array == 10 * epoch + 1).all() for array in arrays.values())
    assert names(tmp_path) == [path.name]


def test_configuration_is_in_the_file(tmp_path, model):
    run(SaveWeights(tmp_path / "w.safetensors", CONFIG), model, 1)
    assert read_config(tmp_path / "w.safetensors") == CONFIG


# In `fit`.


def test_fit_writes_both_from_the_averaged_weights(tmp_path, model):
    model.compile(loss="mean_squared_error", optimizer=keras.optimizers.Adam(0.1))
    images = draw_flowers(4, 8).astype("float32") / 127.5 - 1
    path = tmp_path / "weights.safetensors"
    model.fit(
        tf.data.Dataset.from_tensors(images).repeat(),
        epochs=3,
        steps_per_epoch=2,
        shuffle=False,
        verbose=0,
        callbacks=[
            SaveWeights(path, CONFIG, every=2),
            SampleGrid(tmp_path / "samples", every=2, num_images=2, seed=1),
        ],
    )
    assert names(tmp_path / "samples") == ["epoch-0002.png", "epoch-0003.png"]
    arrays = load_file(path)
    averages, weights = model.ema_network.get_weights(), model.network.get_weights()
    names_of = [w.path for w in model.ema_network.weights]
    for name, average, weight in zip(names_of, averages, weights, strict=True):
        np.testing.assert_array_equal(arrays[name], average)
        assert np.abs(average - weight).max() > 1e-3

    # The grid of the last epoch is that of the weights as they now are.
    grid = make_grid(model.generate_images(2, seed=1, verbose=0))
    with Image.open(tmp_path / "samples" / "epoch-0003.png") as image:
        np.testing.assert_array_equal(np.asarray(image), grid)
