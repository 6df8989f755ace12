"""`scripts/convert.py`, and its output in `scripts/sample.py`."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from good_files import CONFIG, write_good_files
from run_script import run_script
from safetensors.numpy import load_file, save_file
from sample_command import sample

from ddpm_keras.networks.unet import build_unet
from ddpm_keras.weights import load_network, load_weights, read_config

convert = partial(run_script, "convert")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, randomise):
    folder = write_good_files(tmp_path_factory.mktemp("good"), randomise)
    (folder / "tiny.yaml").write_text(CONFIG.to_yaml())
    (folder / "other.yaml").write_text(
        CONFIG.model_copy(update={"first_conv_channels": 8}).to_yaml()
    )
    (folder / "activation.yaml").write_text(
        CONFIG.model_copy(update={"activation": "swoosh"}).to_yaml()
    )
    (folder / "text").write_text("weights")
    (folder / "old.safetensors").write_text("old")
    return folder


@pytest.fixture(autouse=True)
def work_in_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("ending", [".safetensors", ".weights.h5"])
@pytest.mark.parametrize(
    "weights",
    [
        "checkpoint --config tiny.yaml",
        "keras2.h5 --config tiny.yaml",
        "keras3.weights.h5 --config tiny.yaml",
        "model.weights.h5 --config tiny.yaml",
        "ours.safetensors",
        "run",
    ],
)
def test_converted_weights_are_the_same(tmp_path, randomise, weights, ending):
    out = tmp_path / "new" / f"out{ending}"
    output, _ = convert(f"--weights {weights} --out {out}")
    assert output == f"weights: {out} (180,499 parameters)\n"
    assert list(out.parent.iterdir()) == [out]
    network = randomise(build_unet(**CONFIG.network_arguments()))
    load_weights(network, out)
    wanted = load_file("ours.safetensors")
    assert all(np.array_equal(w, wanted[w.path]) for w in network.weights)
    if ending == ".safetensors":
        assert read_config(out) == CONFIG


def test_float16_halves_the_file_and_rounds(tmp_path, randomise):
    out = tmp_path / "half.safetensors"
    convert(f"--weights run --dtype float16 --out {out}")
    assert out.stat().st_size < 0.6 * Path("ours.safetensors").stat().st_size
    network = randomise(build_unet(**CONFIG.network_arguments()))
    load_weights(network, out)
    for name, array in load_file("ours.safetensors").items():
        weight = next(w for w in network.weights if w.path == name)
        assert np.array_equal(weight, array.astype("float16").astype("float32"))
    assert read_config(out) == CONFIG
    again = tmp_path / "again.safetensors"
    convert(f"--weights {out} --dtype float16 --out {again}")
    assert again.read_bytes() == out.read_bytes()


def test_training_images_stay_known(tmp_path):
    from ddpm_keras.weights import TrainingImages, read_training_images, save_weights

    network = load_network("run", CONFIG)
    images = TrainingImages(7, "ab" * 32)
    save_weights(network, tmp_path / "a.safetensors", CONFIG, training_images=images)
    convert(f"--weights {tmp_path}/a.safetensors --out {tmp_path}/b.safetensors")
    assert read_training_images(tmp_path / "b.safetensors") == images


def test_float16_does_not_write_infinities(tmp_path):
    arrays = load_file("ours.safetensors")
    arrays["head/bias"] = np.array([1, -65_505, 2], "float32")
    save_file(arrays, tmp_path / "large.safetensors")
    out = tmp_path / "half.safetensors"
    argv = f"--weights {tmp_path}/large.safetensors --config tiny.yaml --dtype float16"
    assert convert(f"{argv} --out {out}", status=2) == (
        "",
        f"error: {out}: head/bias has numbers that float16 cannot hold; use float32\n",
    )
    assert not out.exists()


def test_force_overwrites_a_file_even_the_input(tmp_path):
    shutil.copy("ours.safetensors", tmp_path / "w.safetensors")
    same = f"--weights {tmp_path}/w.safetensors --out {tmp_path}/w.safetensors"
    convert(same, status=2)
    convert(f"{same} --force")
    assert load_file(tmp_path / "w.safetensors").keys() == (
        load_file("ours.safetensors").keys()
    )


NO_CONFIG = "weights of Keras hold no configuration; name one with --config"


@pytest.mark.parametrize(
    "argv, words",
    [
        ("", "the following arguments are required: --weights, --out"),
        (
            "--weights run --out a.safetensors --conf tiny.yaml",
            "unknown flag --conf: did you mean --config?",
        ),
        (
            "--weights run --out a.h5",
            "--out: a.h5 must end in .safetensors or .weights.h5",
        ),
        (
            "--weights run --out old.safetensors",
            "--out: old.safetensors exists; name another file or use --force",
        ),
        (
            "--weights run --out a.weights.h5 --dtype float16",
            "--dtype: float16 is for .safetensors; --out is a.weights.h5",
        ),
        ("--weights checkpoint --out a.safetensors", f"checkpoint: {NO_CONFIG}"),
        ("--weights keras2.h5 --out a.weights.h5", f"keras2.h5: {NO_CONFIG}"),
        (
            "--weights run --out a.safetensors --config tyni.yaml",
            "tyni.yaml: no such file; did you mean tiny.yaml?",
        ),
        (
            "--weights nowhere --out a.safetensors",
            "nowhere: no such file or folder; check the path",
        ),
        (
            "--weights checkpoint --out a.safetensors --config other.yaml",
            "checkpoint: weights of another network, 143 arrays differ: "
            "time_dense_1/kernel is (64, 64), not (32, 32); ",
        ),
        (
            "--weights run --out a.safetensors --config other.yaml",
            "run/weights.safetensors: weights of another network than the "
            "configuration's: down_0_0_residual/conv_2/kernel is ",
        ),
        (
            "--weights keras2.h5 --out a.safetensors --config activation.yaml",
            "keras2.h5: `activation` must be a Keras activation that keeps shapes",
        ),
        (
            "--weights run --out text/a.safetensors",
            "--out: cannot write to text/a.safetensors (File exists); ",
        ),
    ],
)
def test_mistakes(argv, words):
    output, error = convert(argv, status=2)
    assert output == "" and error.startswith(f"error: {words}")
    assert len(error.splitlines()) == 1
    assert not Path("a.safetensors").exists()


def test_sample_takes_a_configuration(tmp_path):
    argv = f"--num-images 1 --steps 1 --sampler ddim --out {tmp_path}/"
    sample(f"--weights run {argv}ours.png")
    sample(f"--weights checkpoint --config tiny.yaml {argv}theirs.png")
    ours, theirs = (tmp_path / name for name in ("ours.png", "theirs.png"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_sample_asks_for_a_configuration(tmp_path):
    argv = f"--weights checkpoint --num-images 1 --out {tmp_path}/a.png"
    assert sample(argv, status=2) == ("", f"error: checkpoint: {NO_CONFIG}\n")
