"""`ddpm-train`, from the command line to the run folder."""

import contextlib
import csv
import resource
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from run_script import SCRIPTS, run_script
from safetensors.numpy import load_file
from sample_command import sample

from ddpm_keras.config_file import load_config
from ddpm_keras.data import load_images
from ddpm_keras.data.flowers import draw_flower
from ddpm_keras.data.images import split_indices
from ddpm_keras.errors import RunError
from ddpm_keras.weights import read_config, read_training_images

train = partial(run_script, "train")

TINY = """\
dataset_name: petals
num_images: 16
validation_fraction: 0.25
img_size: 8
batch_size: 4
first_conv_channels: 8
channel_multiplier: [1, 2]
has_attention: [false, true]
num_res_blocks: 1
norm_groups: 4
total_timesteps: 20
learning_rate: 1e-3
ema: 0.5
num_epochs: 2
num_samples: 3
seed: 11
"""


def read_log(folder):
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    (folder / "tiny.yaml").write_text(TINY)
    return folder


@pytest.fixture(autouse=True)
def in_workplace(workplace, monkeypatch):
    monkeypatch.chdir(workplace)


@pytest.fixture(scope="module")
def trained(workplace):
    """The folder and the output of one training, `--config tiny.yaml` alone."""
    with contextlib.chdir(workplace):
        output, _ = train("--config tiny.yaml")
    return workplace / "runs" / "tiny" / "001", output


# A run.


def test_run_folder_is_numbered_and_holds_all(trained):
    run, _ = trained
    assert names(run) == [
        *(".lock", "best.safetensors", "checkpoints", "config.yaml", "log.csv"),
        *("loss.png", "report.html", "run.json", "samples", "training.png"),
        "weights.safetensors",
    ]
    assert names(run / "checkpoints") == ["step-00000006"]
    assert names(run / "samples") == ["epoch-0002.png"]
    assert names(run.parent) == ["001"]


def test_output_states_sizes_and_places(trained):
    _, output = trained
    lines = output.splitlines()
    assert "data: 12 images to train on, 4 held out" in lines
    assert "run: runs/tiny/001" in lines
    assert "weights: runs/tiny/001/weights.safetensors" in lines
    assert "samples: runs/tiny/001/samples/epoch-0002.png" in lines
    assert any(line.startswith("network: ") for line in lines)


def test_configuration_is_kept_beside_and_inside_the_weights(trained):
    run, _ = trained
    config = load_config("tiny.yaml")
    assert load_config(run / "config.yaml") == config
    assert read_config(run) == config


def test_log_has_a_row_an_epoch_and_the_loss_falls(trained):
    rows = read_log(trained[0])
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert list(rows[0]) == ["epoch", "loss", "val_loss", "kid"]
    losses = np.array([[float(row[k]) for k in ("loss", "val_loss")] for row in rows])
    # The network begins with 0 for an answer, and the noise's variance is 1.
    assert (0.3 < losses).all() and (losses < 1.3).all()
    # Its own evaluations use the same noise, and so are not left to chance.
    assert losses[1, 1] < losses[0, 1]


def test_samples_are_a_grid_of_pictures(trained):
    with Image.open(trained[0] / "samples" / "epoch-0002.png") as image:
        assert (image.size, image.mode) == ((22, 22), "RGB")  # 2 x 2, of 3 images
        pixels = np.asarray(image)
    assert (pixels[12:20, 12:20] == 255).all()
    assert pixels[2:10, 2:10].std() > 10


def test_weights_are_the_networks_and_have_moved(trained):
    run, _ = trained
    import keras

    from ddpm_keras.networks.unet import build_unet

    config = load_config("tiny.yaml")
    keras.utils.set_random_seed(config.seed)
    network = build_unet(**config.network_arguments())
    arrays = load_file(run / "weights.safetensors")
    assert set(arrays) == {w.path for w in network.weights}
    starts = zip(network.weights, network.get_weights(), strict=True)
    moved = [np.abs(arrays[w.path] - start).max() for w, start in starts]
    assert np.mean(np.array(moved) > 0) > 0.8
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_weights_name_the_training_images(trained):
    images = load_images(load_config("tiny.yaml"))
    training, _ = split_indices(images.ids, 0.25)
    found = read_training_images(trained[0])
    assert found == (len(training), images.digest(training))


@pytest.mark.slow  # `test_runs_train` has it in this process
def test_same_seed_gives_the_same_log_and_weights(trained, tmp_path):
    # In a process of its own; pictures on the way have no say in the training.
    command = [sys.executable, str(SCRIPTS / "train.py"), "--sample_every", "0"]
    command += ["--config", "tiny.yaml", "--run-dir", str(tmp_path / "again")]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr

    again, first = tmp_path / "again", trained[0]
    assert set(names(first)) - set(names(again)) == {"samples"}
    assert (again / "log.csv").read_text() == (first / "log.csv").read_text()
    arrays, again = (load_file(r / "weights.safetensors") for r in (first, again))
    assert set(arrays) == set(again)
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_run_folder_is_all_that_sampling_needs(trained, tmp_path, monkeypatch):
    shutil.copytree(trained[0], tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    sample("--weights moved --seed 11 --num-images 3 --out grid.png")
    # The same seed and weights as in training's last picture.
    with Image.open("grid.png") as image:
        pixels = np.asarray(image)
    with Image.open("moved/samples/epoch-0002.png") as image:
        np.testing.assert_array_equal(pixels, np.asarray(image))


def test_training_starts_from_given_weights(trained):
    run, _ = trained
    flags = f"--initial_weights {run} --learning_rate 1e-12 --num_epochs 1"
    train(f"--config tiny.yaml --run-dir continued {flags} --seed 3")
    before, after = (
        load_file(folder / "weights.safetensors") for folder in (run, Path("continued"))
    )
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_allclose(after[name], array, atol=1e-6, err_msg=name)


def test_weights_of_another_network_are_refused_and_leave_no_run(trained):
    flags = f"--initial_weights {trained[0]} --first_conv_channels 16"
    _, error = train(f"--config tiny.yaml --run-dir other {flags}", 2)
    assert "weights.safetensors" in error and len(error.splitlines()) == 1
    assert not Path("other").exists()


@pytest.mark.usefixtures("convolution")
def test_folder_of_images_without_validation(tmp_path):
    for k in range(5):
        Image.fromarray(draw_flower(0, k, 20)).save(tmp_path / f"{k}.png")
    output, _ = train(
        f"--config tiny.yaml --run-dir {tmp_path}/run --dataset_name folder "
        f"--data_dir {tmp_path} --seed 12 --img_size '[8, 12]' --img_channels 1 "
        "--num_epochs 1 --validation_fraction 0 --sample_every 0 --optimizer sgd"
    )
    assert "data: 5 images to train on, 0 held out" in output.splitlines()
    row, *more = read_log(tmp_path / "run")
    assert not more and float(row["loss"]) < 1.5
    assert row.get("val_loss", "NA") == "NA"
    config = read_config(tmp_path / "run")
    assert (config.img_size, config.img_channels, config.seed) == ([8, 12], 1, 12)


def test_keys_reach_what_they_are_for(tmp_path, monkeypatch):
    from ddpm_keras.model import DiffusionModel
    from ddpm_keras.runs import train as training
    from ddpm_keras.runs.callbacks import Checkpoints
    from ddpm_keras.runs.grids import SampleGrid

    calls = {}

    def keep(name, function):
        def kept(*args, **kwargs):
            calls[name] = args, kwargs
            return function(*args, **kwargs)

        return kept

    for name in ("split_indices", "make_batches"):
        monkeypatch.setattr(training, name, keep(name, getattr(training, name)))
    monkeypatch.setattr(DiffusionModel, "fit", keep("fit", lambda *_, **__: None))
    keys = {
        "seed": 22,
        "random_flip": False,
        "batch_size": 3,
        "num_epochs": 5,
        "optimizer": "adamw",
        "learning_rate": 0.25,
        "loss": "huber",
        "ema": 0.75,
        "total_timesteps": 30,
        "schedule": "cosine",
        "sample_every": 4,
        "num_samples": 6,
        "sampler": "ddim",
        "sample_steps": 7,
        "sample_eta": 0.5,
        "sample_eta_until": 0.3,
        "sample_until": 0.1,
        "save_every": 3,
        "keep": 4,
    }
    flags = " ".join(f"--{key} {str(value).lower()}" for key, value in keys.items())
    train(f"--config tiny.yaml --run-dir {tmp_path}/run {flags}")

    (_, *split), _ = calls["split_indices"]
    assert split == [0.25]
    (_, *sizes), options = calls["make_batches"]
    assert sizes == [3, 5]
    training_indices = options.pop("indices")
    assert options.pop("share") == (0, 1)
    assert options == {"seed": 22, "random_flip": False, "first_step": 0}
    assert len(training_indices) == 12

    (model, batches), options = calls["fit"]
    assert batches.element_spec.shape == (3, 8, 8, 3)
    assert (options["epochs"], options["steps_per_epoch"]) == (5, 4)
    assert type(model.optimizer.inner_optimizer).__name__ == "AdamW"
    assert float(model.optimizer.learning_rate) == 0.25
    assert model.loss == "huber"
    assert (model.ema, model.seed) == (0.75, 22)
    assert (model.diffusion.timesteps, model.diffusion.schedule) == (30, "cosine")
    (grids,) = [c for c in options["callbacks"] if isinstance(c, SampleGrid)]
    assert grids.every == 4
    wanted = {"num_images": 6, "seed": 22, "sampler": "ddim", "steps": 7, "eta": 0.5}
    wanted |= {"eta_until": 0.3, "until": 0.1, "guidance_scale": 1.0}
    assert grids.options == wanted
    (saves,) = [c for c in options["callbacks"] if isinstance(c, Checkpoints)]
    assert (saves.config.save_every, saves.config.keep) == (3, 4)


# `--dry-run`.


def test_dry_run_prints_the_configuration_without_keras(tmp_path):
    # The first line is the program's end: what is loaded by then, and the time.
    code = (
        "import atexit, runpy, sys; sys.argv = sys.argv[1:]; "
        "loaded = ('keras', 'tensorflow', 'jax'); "
        "atexit.register(lambda: print(*sys.modules.keys() & loaded, file=sys.stderr));"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(SCRIPTS / "train.py"), "--dry-run"]
    command += ["--config", "tiny.yaml", "--num_epochs", "7", "--ema", "0"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (run.returncode, run.stderr) == (0, "\n")
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2

    (tmp_path / "resolved.yaml").write_text(run.stdout)
    wanted = load_config("tiny.yaml", {"num_epochs": "7", "ema": "0"})
    assert load_config(tmp_path / "resolved.yaml") == wanted


def test_dry_run_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(TINY)
    train("--config a.yaml --dry-run --run-dir new")
    assert names(tmp_path) == ["a.yaml"]


# Mistakes.


@pytest.mark.usefixtures("trained")  # whose folders stay
@pytest.mark.parametrize(
    "argv, message",
    [
        ("", "--config: name a YAML file, or one that ships: cifar10, demo,"),
        ("--config tiny.yaml --resume", "--resume: name the run's folder"),
        ("--config tiny.yml", "did you mean tiny.yaml?"),
        ("--config nowhere/a.yaml", "nowhere/a.yaml: no such file"),
        ("--config tiny.yaml --num-epoch 3", "unknown flag --num-epoch:"),
        ("--config tiny.yaml --num_epochs 0", "--num_epochs: must be"),
        ("--config tiny.yaml --img_size 9", "--img_size: img_size must be"),
        ("--config tiny.yaml --optimizer adma", "optimizer: Keras has no 'adma';"),
        ("--config tiny.yaml --activation swihs", "activation: Keras has no 'swihs'"),
        (
            "--config tiny.yaml --activation glu",
            "activation: Keras has no 'glu' that keeps shapes; use a name such as sw",
        ),
        ("--config tiny.yaml --activation threshold", "activation: Keras has no 'thr"),
        ("--config tiny.yaml --batch_size 13", "batch_size: 12 training"),
        (
            "--config tiny.yaml --dataset_name folder --data_dir nowhere",
            "data_dir: 0 images found in nowhere",
        ),
        (
            "--config tiny.yaml --dataset_name folder",
            "data_dir: dataset_name folder",
        ),
        (
            f"--config tiny.yaml --batch_size {10**12}",
            "batch_size, img_size, first_conv_channels: the network would take",
        ),
        (
            f"--config tiny.yaml --total_timesteps {10**12}",
            "--total_timesteps: must be",
        ),
        ("--config tiny.yaml --initial_weights no", "no: no such file or folder"),
        ("--config tiny.yaml --run-dir .", "--run-dir: . is not empty"),
        ("--config tiny.yaml --run-dir tiny.yaml", "--run-dir: cannot"),
    ],
)
def test_mistake_is_one_line_and_status_2(workplace, argv, message):
    def files():
        paths = sorted(workplace.rglob("*"))
        return [(path, path.is_file() and path.stat().st_mtime_ns) for path in paths]

    before = files()
    _, error = train(argv, status=2)
    assert error.startswith("error: ") and message in error
    assert error.endswith("\n") and error.count("\n") == 1
    assert files() == before


def test_start_with_resume_that_fails_keeps_the_folder(tmp_path):
    (tmp_path / "config.yaml").write_text(f"{TINY}optimizer: adma\n")
    _, error = train(f"--run-dir {tmp_path} --resume", status=2)
    assert "Keras has no 'adma'" in error
    assert (tmp_path / "config.yaml").is_file()


def test_error_of_a_run_whose_folder_is_gone_is_shown(tmp_path, monkeypatch):
    def fails(config, folder):
        shutil.rmtree(folder)
        raise RunError("what went wrong")

    monkeypatch.setattr("ddpm_keras.runs.train.train", fails)
    _, error = train(f"--config tiny.yaml --run-dir {tmp_path}/run", status=1)
    assert error == "error: what went wrong\n"


@pytest.mark.parametrize(
    "line, message",
    [
        ("num_epoch: 3", "a.yaml:17: unknown key 'num_epoch'; did you mean"),
        ("dropout: 1", "a.yaml:17: dropout must be a number"),
        ("seed: 12", "a.yaml:17: repeated key 'seed', first given at a.yaml:16"),
    ],
)
def test_mistake_in_the_file_is_reported_with_its_line(
    tmp_path, monkeypatch, line, message
):
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(TINY + line + "\n")
    _, error = train("--config a.yaml", status=2)
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_tensorboard_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    _, error = train("--config tiny.yaml --tensorboard true", status=2)
    assert error == (
        "error: tensorboard: its package is not installed; run pip install "
        "tensorboard, or leave the key out\n"
    )
