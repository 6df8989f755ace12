"""A run from its start to its end, and what it outlives, in the process of the tests.

`test_resume` has the same with real signals in processes of their own.
"""

import io
import shutil
import signal
import sys

import keras
import numpy as np
import pytest
from PIL import Image
from run_script import run_script
from training_server import convolution
from whole_runs import assert_as_whole, saved_steps

from ddpm_keras.cli.train import main
from ddpm_keras.devices import kernel_settings
from ddpm_keras.model import DiffusionModel
from ddpm_keras.runs import checkpoint, train
from ddpm_keras.runs.grids import SampleGrid
from ddpm_keras.runs.log import read_log
from ddpm_keras.runs.progress import TrainingProgress

TINY = """\
dataset_name: petals
num_images: 12
validation_fraction: 0.25
img_size: 8
batch_size: 3
first_conv_channels: 8
total_timesteps: 20
ema: 0.5
num_epochs: 4
sample_every: 1
num_samples: 1
sample_steps: 1
save_every: 100
seed: 11
"""
EPOCH = 3  # steps
pytestmark = pytest.mark.usefixtures("convolution")


@pytest.fixture
def start(tmp_path):
    """A function that runs `tiny.yaml` in a folder; the folder."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    folder = tmp_path / "run"

    def start(flags="", status=0):
        command = f"--config {tmp_path}/tiny.yaml --run-dir {folder} {flags}"
        return run_script("train", command, status)

    return start, folder


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("ended")
    (folder / "tiny.yaml").write_text(TINY)
    with convolution():
        run_script("train", f"--config {folder}/tiny.yaml --run-dir {folder}/run")
    return folder / "run"


class Trouble(Exception):
    pass


def raise_after(monkeypatch, kind, method, calls, trouble):
    """Call `trouble` in the place of the so-many-th call of a method."""
    whole, count = getattr(kind, method), 0

    def troubled(self, *args, **kwargs):
        nonlocal count
        count += 1
        if count == calls:
            return trouble()
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(kind, method, troubled)


def fail():
    raise Trouble


def test_same_seed_gives_the_same_bits(start, ended):
    """Pictures on the way have no say in the training."""
    start, folder = start
    start("--sample_every 0")
    assert_as_whole(folder, ended, samples=False)
    assert not (folder / "samples").exists()


# What ends `fit` and is not foreseen.


@pytest.mark.parametrize(
    "kind, method, calls, step",
    [
        (SampleGrid, "on_epoch_end", 2, 2 * EPOCH),
        (TrainingProgress, "on_train_batch_end", EPOCH + 1, EPOCH + 1),
        (DiffusionModel, "evaluate", 2, 2 * EPOCH),
    ],
    ids=["a picture", "a line of output", "validation"],
)
def test_any_exception_saves_first(
    start, ended, monkeypatch, kind, method, calls, step
):
    start, folder = start
    with monkeypatch.context() as patch:
        raise_after(patch, kind, method, calls, fail)
        with pytest.raises(Trouble):
            start()
    assert max(saved_steps(folder)) == step
    start("--resume")
    if kind is not DiffusionModel:
        assert_as_whole(folder, ended)
        return
    rows = (folder / "log.csv").read_text().splitlines()
    wanted = (ended / "log.csv").read_text().splitlines()
    wanted[2] = "1,NA,NA,NA"  # its figures were never known
    assert rows == wanted


def test_step_that_was_not_completed_is_not_saved(start, ended, monkeypatch, capsys):
    """Some of its weights may have changed already."""
    start, folder = start
    with monkeypatch.context() as patch:
        raise_after(patch, SampleGrid, "on_train_batch_begin", 3, fail)
        with pytest.raises(Trouble):
            main([f"--config={folder.parent}/tiny.yaml", f"--run-dir={folder}"])
    assert "warning: step 3 was not completed" in capsys.readouterr().err
    assert not (folder / "checkpoints").exists()
    start("--resume")
    assert_as_whole(folder, ended)


@pytest.mark.parametrize("name, status", [("SIGHUP", 129), ("SIGUSR1", 138)])
def test_closed_terminal_and_schedulers_save(start, ended, monkeypatch, name, status):
    start, folder = start
    number = getattr(signal, name)
    with monkeypatch.context() as patch:
        trouble = lambda: signal.raise_signal(number)  # noqa: E731
        raise_after(patch, SampleGrid, "on_train_batch_end", 2, trouble)
        output, errors = start(status=status)
    assert "stopped: after step 3 of " in output and f"{name}: stopping" in errors
    start("--resume")
    assert_as_whole(folder, ended)


def test_interrupt_before_the_first_step_leaves_nothing(start, monkeypatch):
    start, folder = start
    with monkeypatch.context() as patch:
        trouble = lambda: signal.raise_signal(signal.SIGINT)  # noqa: E731
        raise_after(patch, SampleGrid, "on_train_begin", 1, trouble)
        output, _ = start(status=130)
    assert "resume" not in output and not folder.exists()
    for number in (signal.SIGINT, signal.SIGTERM):
        with monkeypatch.context() as patch:  # before `fit`, as while Keras loads
            trouble = lambda: signal.raise_signal(number)  # noqa: B023,E731
            raise_after(patch, DiffusionModel, "compile", 1, trouble)
            assert start(status=128 + number)[1] == ""
        assert not folder.exists()


def test_a_start_with_skipped_images_is_refused_without_a_trace(start, monkeypatch):
    start, folder = start
    photos = folder.parent / "photos"
    photos.mkdir()
    for number in range(9):
        Image.new("RGB", (8, 8)).save(photos / f"{number}.png")
    (photos / "bad.png").write_bytes(b"no image")
    flags = f"--dataset_name folder --data_dir {photos} --skip_bad true"
    flags += " --validation_fraction 0 --num_epochs 1"
    start(f"{flags} --batch_size 10", status=2)  # of which one is bad
    assert not folder.exists()
    with monkeypatch.context() as patch:
        trouble = lambda: signal.raise_signal(signal.SIGINT)  # noqa: E731
        raise_after(patch, SampleGrid, "on_train_begin", 1, trouble)
        start(flags, status=130)
    assert not folder.exists()
    start(flags)
    assert "bad.png" in (folder / "skipped_images.txt").read_text()


def test_output_on_a_full_disk_stops_nothing(start, ended, monkeypatch, capfd):
    start, folder = start
    argv = [f"--config={folder.parent}/tiny.yaml", f"--run-dir={folder}"]
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        patch.setattr(sys, "stderr", io.StringIO())
        assert main(argv) == 0
        assert sys.stderr.getvalue().count("warning: stdout: No space left") == 1
    assert_as_whole(folder, ended)


# What was changed between a run and its resumption.


def test_configuration_edited_by_hand_is_refused(ended, tmp_path):
    folder = shutil.copytree(ended, tmp_path / "run")
    text = (folder / "config.yaml").read_text()
    edited = text.replace("batch_size: 3", "batch_size: 4").replace(
        "ema: 0.5", "ema: 0"
    )
    edited = edited.replace("mean_squared_error", "huber").replace("0.02", "0.03")
    edited = edited.replace("total_timesteps: 20", "total_timesteps: 30")
    edited = edited.replace("random_flip: true", "random_flip: false")
    (folder / "config.yaml").write_text(edited)
    _, error = run_script("train", f"--run-dir {folder} --resume", status=2)
    assert error == (
        f"error: --resume: {folder} was begun with other values of random_flip (was "
        "True, is False), batch_size (was 3, is 4), total_timesteps (was 20, is 30), "
        "beta_end (was 0.02, is 0.03), loss (was mean_squared_error, is huber), ema "
        "(was 0.5, is 0.0); leave them as they were, or start a new run\n"
    )
    assert (folder / "config.yaml").read_text() == edited
    (folder / "config.yaml").write_text(text)
    run_script("train", f"--run-dir {folder} --resume")


def test_log_that_was_damaged_is_whole_again(ended, tmp_path):
    folder = shutil.copytree(ended, tmp_path / "run")
    rows = (folder / "log.csv").read_bytes()
    (folder / "log.csv").write_bytes(rows.replace(b"\r", b""))
    _, errors = run_script("train", f"--run-dir {folder} --resume")
    assert errors.count("warning: ") == 1 and "log.csv.bad" in errors
    assert_as_whole(folder, ended)


def test_grids_that_are_gone_are_told(ended, tmp_path):
    folder = shutil.copytree(ended, tmp_path / "run")
    shutil.rmtree(folder / "samples")
    _, errors = run_script("train", f"--run-dir {folder} --resume")
    assert "there is no grid after 3 epochs (1, 2, 3), and their weights are" in errors
    assert [p.name for p in (folder / "samples").iterdir()] == ["epoch-0004.png"]


only_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="settings of TensorFlow"
)


@pytest.mark.parametrize(
    "name, value",
    [
        ("XLA_FLAGS", "--mine"),
        ("TF_ENABLE_ONEDNN_OPTS", "0"),
        pytest.param("TF_NUM_INTRAOP_THREADS", "7", marks=only_tensorflow),
        pytest.param("TF_NUM_INTEROP_THREADS", "7", marks=only_tensorflow),
    ],
)
def test_other_kernels_are_told(ended, tmp_path, monkeypatch, name, value):
    folder = shutil.copytree(ended, tmp_path / "run")
    monkeypatch.setenv(name, value)
    _, errors = run_script("train", f"--run-dir {folder} --resume")
    (line,) = errors.splitlines()
    assert line.startswith(f"warning: {name} ") and line.endswith(
        f" -> {value}: the run resumes, but not bit for bit as before"
    )


@only_tensorflow
def test_settings_of_tensorflow_are_known(monkeypatch):
    before = kernel_settings()
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        monkeypatch.setenv(name, "7")
        assert kernel_settings() == (before := before | {name: "7"})
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert kernel_settings() == before | {"TF_ENABLE_ONEDNN_OPTS": "0"}


# A lack of memory in a step.


def test_a_step_beyond_memory_is_one_line(start, monkeypatch):
    def step(model, data, training):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")

    monkeypatch.setattr(DiffusionModel, "before_step", step)
    start, folder = start
    _, errors = start(status=1)
    assert errors.splitlines()[-1].startswith(
        "error: there is not enough memory; make "
    )
    assert "Traceback" not in errors


# Divergence on every backend.


def test_gradients_that_are_not_finite_stop_within_ten_steps(start, monkeypatch):
    """Below a loss that stays finite: only the gradients tell."""
    start, folder = start

    def loss(target, output):
        # Its value is 1; the gradient of the square root at 0 is not finite.
        return 1.0 + keras.ops.sqrt(0.0 * keras.ops.mean(output - target, axis=-1))

    whole = DiffusionModel.compile
    monkeypatch.setattr(
        DiffusionModel,
        "compile",
        lambda self, **others: whole(self, others["optimizer"], loss),
    )
    _, error = start("--num_images 60", status=1)
    assert "error: step 10: 10 steps in a row had no finite gradients" in error
    assert "(loss 1, " in error
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("number, which", [(12, "training"), (200, "held_out")])
def test_run_measures_its_samples_before_it_logs(start, monkeypatch, number, which):
    """Against held-out images, where they are enough."""
    runs, compared = [], []

    class Spy(train.MeasureSamples):
        def __init__(self, real, config):
            super().__init__(real, config)
            compared.extend(real.ids)

    def callbacks(run, checkpoints, whole=train.Run.callbacks):
        runs.append(run)
        return whole(run, checkpoints)

    monkeypatch.setattr(train, "MeasureSamples", Spy)
    monkeypatch.setattr(train.Run, "callbacks", callbacks)
    run, folder = start
    run(f"--num_images {number} --num_epochs 2 --eval_every 1 --eval_images 16")
    assert compared == list(runs[0].images.ids[getattr(runs[0], which)])
    epochs, curves = read_log(folder / "log.csv")
    assert len(epochs) == 2 and np.isfinite(curves["kid"]).all()
    best = checkpoint.restore(folder)[2]["best"]
    assert best["measure"] == "kid of random:0, whitened"
    assert best["value"] == pytest.approx(min(curves["kid"]), rel=1e-4)
