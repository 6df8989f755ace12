"""Sample grids, the log, and checkpoints that fail."""

import sys
import types

import keras
import numpy as np
import pytest
from PIL import Image

from ddpm_keras.config import Config
from ddpm_keras.data.pixels import make_grid
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.errors import RunError
from ddpm_keras.model import DiffusionModel
from ddpm_keras.runs import callbacks, checkpoint
from ddpm_keras.runs.callbacks import Checkpoints, SampleGrid
from ddpm_keras.runs.log import Log, read_log


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


def test_full_disk_costs_a_grid_and_not_the_training(tmp_path, monkeypatch, capsys):
    def save_png(path, grid):
        if path.name == "epoch-0001.png":
            raise OSError("No space left on device")
        path.touch()

    monkeypatch.setattr(callbacks, "save_png", save_png)
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
    display.Image = lambda path, width: path
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    run(SampleGrid(tmp_path, every=2), FakeModel(), 4)
    assert shown == [str(tmp_path / f"epoch-000{n}.png") for n in (2, 4)]


# The log.


def test_a_run_that_goes_on_may_measure_something_else(tmp_path):
    path = tmp_path / "log.csv"
    measured = {"loss": 3.0, "val_loss": 4.0, "kid": 5.0}
    for start, logs in enumerate([{"loss": 1.0, "val_loss": 2.0}, measured]):
        log = Log(str(path), append=start > 0)
        log.on_train_begin()
        log.on_epoch_end(start, logs)
        log.on_train_end()
    assert path.read_text().splitlines() == [
        "epoch,loss,val_loss,kid",
        "0,1.0,2.0,NA",
        "1,3.0,4.0,5.0",
    ]


def test_a_log_of_an_earlier_version_keeps_its_columns(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss,val_loss,kid,swd\n0,1.0,2.0,3.0,4.0\n")
    log = Log(str(path), append=True)
    log.on_train_begin()
    log.on_epoch_end(1, {"loss": 1.5, "val_loss": 2.5, "kid": 3.5})
    log.on_train_end()
    assert path.read_text().splitlines()[2:] == ["1,1.5,2.5,3.5,NA"]
    epochs, curves = read_log(path)
    np.testing.assert_array_equal(epochs, [1, 2])
    np.testing.assert_array_equal(curves["kid"], [3.0, 3.5])
    np.testing.assert_array_equal(curves["swd"], [4.0, np.nan])


# Checkpoints that cannot be saved; `test_resume` has the others.


@pytest.fixture
def checkpoints(tmp_path, model, monkeypatch):
    """A `Checkpoints`, and a list of the errors that its next saves meet."""
    model.compile(loss="mean_squared_error", optimizer="adam")
    callback = Checkpoints(tmp_path, Config(save_every=1), steps_per_epoch=9)
    callback.set_model(model)
    errors = []

    def full(*args):
        if errors and errors.pop(0):
            raise RunError("run: not saved (disk full); 9 bytes needed, 1 free")
        return checkpoint.save(*args)

    monkeypatch.setattr(callbacks, "save", full)
    return callback, errors


def test_full_disk_is_a_warning_and_the_next_save_is_tried(
    tmp_path, checkpoints, capsys
):
    callback, errors = checkpoints
    errors += [True, True, False, True, True, False]
    for step in range(6):
        callback.on_train_batch_end(step, {"loss": 1.0})
    line = "run: not saved (disk full); 9 bytes needed, 1 free; training goes on"
    assert capsys.readouterr().err.splitlines() == [f"warning: {line}"] * 4
    assert names(tmp_path / "checkpoints") == ["step-00000003", "step-00000006"]


def test_third_failure_in_a_row_stops(checkpoints):
    callback, errors = checkpoints
    errors += [True] * 3
    for step in range(2):
        callback.on_train_batch_end(step, {"loss": 1.0})
    with pytest.raises(RunError, match="1 free; make room and continue with --resume$"):
        callback.on_train_batch_end(2, {"loss": 1.0})


def test_best_weights_that_are_saved_do_not_hide_failures(checkpoints):
    callback, errors = checkpoints
    callback.set_params({"epochs": 99})
    errors += [True] * 3
    for callback.step in (9, 18):
        logs = {"loss": 1.0, "val_loss": 1.0 / callback.step}
        callback.on_epoch_end(callback.step // 9 - 1, logs)
    assert callback.facts["best"]["value"] == 1.0 / 18
    callback.step = 27
    with pytest.raises(RunError, match="make room"):
        callback.on_epoch_end(2, {"loss": 1.0, "val_loss": 0.0})


def test_updates_that_fail_below_a_finite_loss_stop(checkpoints):
    callback, _ = checkpoints
    callback.model.optimizer.step_counter.assign(8)
    callback.set_params({"epochs": 99})
    callback.on_epoch_end(0, {"loss": 1.0})
    callback.model.optimizer.step_counter.assign(9)
    with pytest.raises(RunError, match="step 0: 9 steps in a row had no finite grad"):
        callback.on_epoch_end(1, {"loss": 1.0})


def test_last_save_must_succeed(checkpoints):
    callback, errors = checkpoints
    errors += [True]
    callback.step = 5
    with pytest.raises(RunError, match="1 free; make room and continue"):
        callback.save(last=True)


def test_new_best_weights_do_not_put_a_checkpoint_off(tmp_path, model, monkeypatch):
    clock = types.SimpleNamespace(monotonic=lambda: clock.minutes * 60.0, minutes=0)
    monkeypatch.setattr(callbacks, "time", clock)
    model.compile(loss="mean_squared_error", optimizer="adam")
    callback = Checkpoints(tmp_path, Config(save_every="10min"), steps_per_epoch=1)
    callback.set_model(model)
    callback.set_params({"epochs": 99})
    for epoch in range(7):
        clock.minutes += 4
        callback.on_train_batch_end(0, {"loss": 1.0})
        callback.on_epoch_end(epoch, {"loss": 1.0, "val_loss": 1.0 / (epoch + 1)})
    assert names(tmp_path / "checkpoints") == ["step-00000003", "step-00000006"]


# The best weights.


def best_epochs(tmp_path, model, monkeypatch, logs, failing=()):
    """The epochs after which the best weights were written; the callback."""
    model.compile(loss="mean_squared_error", optimizer="adam")
    callback = Checkpoints(tmp_path, Config(), steps_per_epoch=1)
    callback.set_model(model)
    callback.set_params({"epochs": 99})
    written = []

    def save_weights(network, path, config, training_images):
        if epoch in failing:
            raise OSError("disk full")
        written.append(epoch)

    monkeypatch.setattr(callbacks, "save_weights", save_weights)
    for epoch, figures in enumerate(logs):
        callback.on_epoch_end(epoch, {"loss": 1.0, **figures})
    return written, callback.facts["best"]


def test_best_weights_are_of_the_lowest_figure(tmp_path, model, monkeypatch):
    losses = [0.3, 0.2, np.nan, 0.25, 0.1]
    logs = [{"val_loss": loss} for loss in losses]
    written, best = best_epochs(tmp_path, model, monkeypatch, logs)
    assert (written, best) == ([0, 1, 4], {"measure": "val_loss", "value": 0.1})


def test_kid_is_compared_with_kid_only(tmp_path, model, monkeypatch):
    logs = [
        {"val_loss": 0.04},
        {"val_loss": 0.05, "kid": np.nan},
        {"val_loss": 0.05, "kid": 0.2},
        {"val_loss": 0.03, "kid": 0.3},
        {"val_loss": 0.05, "kid": 0.1},
        {"val_loss": 0.06},
    ]
    written, best = best_epochs(tmp_path, model, monkeypatch, logs)
    assert (written, best) == ([0, 2, 4, 5], {"measure": "val_loss", "value": 0.06})


def test_best_that_could_not_be_written_does_not_count(tmp_path, model, monkeypatch):
    logs = [{"val_loss": loss} for loss in (0.3, 0.1, 0.2)]
    written, best = best_epochs(tmp_path, model, monkeypatch, logs, failing=[1])
    assert (written, best) == ([0, 2], {"measure": "val_loss", "value": 0.2})


# Divergence; `test_resume` has that of float32.


@pytest.mark.parametrize("scale, stops", [(2.0, False), (0.5, True)])
def test_float16_whose_scale_vanishes_stops(checkpoints, model, scale, stops):
    callback, _ = checkpoints
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(), initial_scale=scale
    )
    model.compile(loss="mean_squared_error", optimizer=optimizer)
    callback.on_train_batch_end(0, {"loss": float("nan")})
    callback.step = callback._patience - 1
    if stops:
        with pytest.raises(RunError, match="even with a loss scale of 0.5;"):
            callback.on_train_batch_end(0, {"loss": float("nan")})
    else:
        callback.on_train_batch_end(0, {"loss": float("nan")})
