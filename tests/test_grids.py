"""Grids of samples in a training."""

import sys
import types

import keras
import numpy as np
import pytest
from PIL import Image

from ddpm_keras.data.images import Images
from ddpm_keras.data.pixels import make_grid
from ddpm_keras.runs import grids
from ddpm_keras.runs.grids import SampleGrid


class FakeModel:
    """A model that records its calls and paints images of one value."""

    def __init__(self):
        self.asked = []
        self.value = 0.0

    def generate_images(self, **options):
        self.asked.append(options)
        return np.full((options["num_images"], 4, 4, 3), self.value, "float32")


def run(callback, model, epochs):
    """Call a callback as `fit` does."""
    callback.set_model(model)
    callback.set_params({"epochs": epochs})
    callback.on_train_begin()
    for epoch in range(epochs):
        callback.on_epoch_end(epoch, {"loss": 1.0})
    callback.on_train_end()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    "every, epochs, wanted",
    [(1, 3, [1, 2, 3]), (2, 5, [2, 4, 5]), (2, 4, [2, 4]), (10, 3, [3])],
)
def test_grids_come_every_few_epochs_and_at_the_last(tmp_path, every, epochs, wanted):
    callback = SampleGrid(tmp_path / "samples", every=every, num_images=3)
    run(callback, FakeModel(), epochs)
    assert names(tmp_path / "samples") == [f"epoch-{n:04d}.png" for n in wanted]
    assert all(callback.path(n).is_file() for n in wanted)


def test_full_disk_costs_a_grid_and_not_the_training(tmp_path, monkeypatch, capsys):
    def save_png(path, grid):
        if path.name == "epoch-0001.png":
            raise OSError("No space left on device")
        path.touch()

    monkeypatch.setattr(grids, "save_png", save_png)
    run(SampleGrid(tmp_path, every=1), FakeModel(), epochs=2)
    assert names(tmp_path) == ["epoch-0002.png"]
    warning = f"warning: {tmp_path}/epoch-0001.png: No space left on device"
    assert capsys.readouterr().err.startswith(warning)


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
    assert model.asked == [{**options, "verbose": 1}] * 2


def test_real_images_take_the_places_of_their_class(tmp_path):
    values = np.arange(6, dtype="uint8")
    pixels = np.tile(values[:, None, None, None], (1, 4, 4, 3))
    images = Images(pixels, labels=[0, 0, 0, 1, 2, 2], names=("a", "b", "c"))
    grid = SampleGrid(tmp_path, num_images=6, class_names=images.names)
    shown = grid.real_grid(images)[4::6, -14:][:, 4::6, 0]  # 4 wide, 2 between
    assert set(shown[0]) < {0, 1, 2} and set(shown[2]) == {4, 5}
    assert list(shown[1]) == [3, 255]  # there is no second one
    shown = SampleGrid(tmp_path, num_images=4).real_grid(images)[4::6, 4::6, 0]
    assert len(set(shown.flat)) == 4 and shown.max() < 6


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
    display.Image = lambda path, width: path
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    run(SampleGrid(tmp_path, every=2), FakeModel(), 4)
    assert shown == [str(tmp_path / f"epoch-000{n}.png") for n in (2, 4)]


def test_grids_that_are_missing_are_drawn_or_told(tmp_path, capsys):
    """As after a full disk; the weights of the last epoch alone are there."""
    callback = SampleGrid(tmp_path, every=2, num_images=2, epochs_done=8)
    callback.path(4).touch()
    callback.set_model(FakeModel())
    callback.set_params({"epochs": 8})
    callback.on_train_begin()
    assert names(tmp_path) == ["epoch-0004.png", "epoch-0008.png"]
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}: there is no grid after 2 epochs (2, 6), and their "
        "weights are gone\n"
    )


def test_grids_that_are_missing_are_told_in_mid_epoch(tmp_path, capsys):
    """The model is no longer as the eighth epoch left it."""
    callback = SampleGrid(tmp_path, every=2, epochs_done=8, at_boundary=False)
    for epoch in (4, 6):
        callback.path(epoch).touch()
    callback.set_model(FakeModel())
    callback.set_params({"epochs": 12})
    callback.on_train_begin()
    assert names(tmp_path) == ["epoch-0004.png", "epoch-0006.png"]
    assert "no grid after 2 epochs (2, 8), and" in capsys.readouterr().err
