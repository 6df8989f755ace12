"""Progress: a bar in a terminal, few lines in a log file."""

import io
import sys

import numpy as np
import pytest

from ddpm_keras import progress
from ddpm_keras.metrics.copies import memorisation
from ddpm_keras.model import DiffusionModel
from ddpm_keras.progress import Progress, duration
from ddpm_keras.runs.grids import SampleGrid


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time, which stands still unless it is set."""
    time = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: time[0])
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    return time


@pytest.fixture
def output(monkeypatch):
    """A function that makes stdout a log file or a terminal."""

    def make(kind):
        stream = kind()
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    return make


def test_log_file_gets_a_line_every_ten_seconds(clock, output):
    log = output(io.StringIO)
    shown = Progress("sampling", 1000, "steps")
    for done in range(1, 1001):  # 30 seconds
        clock[0] += 0.03
        shown.update(done, (lambda: "loss 0.5") if done > 500 else None)
    shown.close()
    assert log.getvalue() == (
        "sampling: 334 of 1,000 steps, 20 s left\n"
        "sampling: 668 of 1,000 steps, loss 0.5, 10 s left\n"
    )


def test_short_work_leaves_no_line(clock, output):
    log = output(io.StringIO)
    shown = Progress("reading", 3, "images")
    for done in (1, 2, 3):
        clock[0] += 3
        shown.update(done)
    shown.close()
    assert log.getvalue() == ""


def test_terminal_gets_a_bar_that_ends_its_line(clock, output):
    terminal = output(Terminal)
    shown = Progress("sampling", 400, "steps")
    for done in (100, 200, 300, 400):
        clock[0] += 60
        shown.update(done)
        clock[0] += 0.01
        shown.update(min(400, done + 1))  # too soon to be drawn again
    lines = [line.rstrip() for line in terminal.getvalue().split("\r")[1:]]
    assert lines == [
        "sampling [######------------------] 100 of 400 steps, 3 min left",
        "sampling [############------------] 200 of 400 steps, 2 min left",
        "sampling [##################------] 300 of 400 steps, 1 min left",
        "sampling [########################] 400 of 400 steps",
    ]
    assert terminal.getvalue().endswith("\n")


def test_bar_covers_a_longer_one_of_other_work(clock, output):
    terminal = output(Terminal)
    training = Progress("training", 1000, "steps")
    clock[0] += 1
    training.update(1, lambda: "epoch 1 of 100, loss 0.5000")
    Progress("sampling", 1, "steps").update(1)
    _, long, short = terminal.getvalue().rstrip("\n").split("\r")
    assert len(short) == len(long) > len(short.rstrip()) + 20


def test_search_for_copies_is_shown_to_its_end(clock, output):
    rng = np.random.default_rng(0)
    terminal = output(Terminal)
    memorisation(rng.normal(size=(4, 3)), rng.normal(size=(9, 3)), verbose=1)
    shown = terminal.getvalue().split("\r")[-1].strip()
    assert shown == f"copies [{'#' * 24}] 26 of 26 searches"


def test_grid_of_a_training_is_shown(output, tmp_path, make_network):
    log = output(Terminal)
    model = DiffusionModel(make_network(), seed=0)
    grid = SampleGrid(tmp_path, every=1, num_images=1, sampler="dpmpp", steps=2)
    grid.set_model(model)
    grid.set_params({"epochs": 1})
    grid.on_epoch_end(0)
    assert "sampling [" in log.getvalue() and "2 of 2 steps" in log.getvalue()


def test_what_was_done_before_does_not_count_as_fast(clock, output):
    log = output(io.StringIO)
    shown = Progress("training", 100, "steps", done=90)
    clock[0] += 60  # a slow first step, which compiles
    shown.update(91)
    clock[0] += 12
    shown.update(93)
    assert log.getvalue().splitlines()[0].endswith(", 9 min left")
    assert log.getvalue().splitlines()[1].endswith(", 42 s left")


def test_nothing_is_shown_unless_asked_for(clock, output):
    terminal = output(Terminal)
    shown = Progress("sampling", 2, "steps", show=False)
    clock[0] += 60
    shown.update(2)
    shown.close()
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0.2, "0 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (3 * 86400 + 2 * 3600 + 5, "3 days 2 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_training_tells_epoch_losses_and_the_time_left(clock, output):
    from ddpm_keras.runs.progress import TrainingProgress

    log = output(io.StringIO)
    shown = TrainingProgress(steps_per_epoch=4, num_epochs=10, first_step=2)
    for epoch, steps in ((0, 2), (1, 4)):  # the rest of an epoch, then a whole one
        for batch in range(steps):
            clock[0] += 9
            shown.on_train_batch_end(batch, {"loss": 0.5})
        shown.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 0.25})
    shown.close()
    assert log.getvalue().splitlines() == [
        "training: 4 of 40 steps, epoch 1 of 10, loss 0.5000, 5 min 24 s left",
        "training: 6 of 40 steps, epoch 2 of 10, loss 0.5000, val_loss 0.2500, "
        "5 min 6 s left",
        "training: 8 of 40 steps, epoch 2 of 10, loss 0.5000, val_loss 0.2500, "
        "4 min 48 s left",
    ]
