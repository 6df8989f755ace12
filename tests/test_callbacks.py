"""Checkpoints that fail, the best weights, and divergence."""

import types

import keras
import numpy as np
import pytest

from ddpm_keras.config import Config
from ddpm_keras.errors import RunError
from ddpm_keras.runs import callbacks, checkpoint
from ddpm_keras.runs.callbacks import Checkpoints


def names(folder):
    return sorted(path.name for path in folder.iterdir())


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
    callback.model.optimizer.step_counter.assign(9)
    callback.set_params({"epochs": 99})
    callback.on_epoch_end(0, {"loss": 1.0})
    callback.model.optimizer.step_counter.assign(10)
    with pytest.raises(RunError, match="step 0: 10 steps in a row had no finite grad"):
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
