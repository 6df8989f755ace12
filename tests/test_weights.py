"""Weights in files: round trips, mistakes and hostile files."""

import contextlib
import inspect
import os
import pickle
import shutil
import sys

import h5py
import hostile_checkpoints
import hostile_files
import hostile_hdf5
import keras
import numpy as np
import pytest
from good_files import CONFIG, write_good_files
from limits import limits
from safetensors.numpy import load_file, save_file

from ddpm_keras.errors import InputError
from ddpm_keras.networks.unet import build_unet
from ddpm_keras.weights import (
    TrainingImages,
    find_weights,
    fingerprint,
    load_network,
    load_weights,
    read_config,
    read_training_images,
    save_weights,
)
from ddpm_keras.weights.keras3 import save_hdf5
from ddpm_keras.weights.safetensors_file import read_safetensors


@pytest.fixture(scope="module")
def good(tmp_path_factory, randomise):
    return write_good_files(tmp_path_factory.mktemp("good"), randomise)


@pytest.fixture(scope="module")
def network():
    return build_unet(**CONFIG.network_arguments())


# Round trips.


@pytest.mark.parametrize(
    "name",
    [
        "ours.safetensors",
        "run",
        "keras2.h5",
        "keras3.weights.h5",
        "model.weights.h5",
        "checkpoint",
    ],
)
def test_every_format_gives_the_same_weights(good, network, randomise, name):
    randomise(network)
    load_weights(network, good / name)
    arrays = load_file(good / "ours.safetensors")
    assert len(arrays) == len(network.weights)
    for weight in network.weights:
        assert np.array_equal(weight, arrays[weight.path])


def test_format_is_recognised_by_content_not_by_name(good, network, tmp_path):
    wanted = {"ours.safetensors": "a.h5", "keras3.weights.h5": "b", "keras2.h5": "c.pt"}
    for name, other in wanted.items():
        shutil.copy(good / name, tmp_path / other)
        load_weights(network, tmp_path / other)


def test_keras_loads_our_weights(good, network, randomise):
    load_weights(network, good / "ours.safetensors")
    wanted = network.get_weights()
    randomise(network)
    network.load_weights(good / "keras3.weights.h5")
    assert all(np.array_equal(*p) for p in zip(network.weights, wanted, strict=True))


def test_order_is_read_from_a_long_keras_2_file(good, network, tmp_path, randomise):
    # Keras 2 writes lists over 64 kB in parts, and `model.save` into a group.
    with h5py.File(tmp_path / "w.h5", "w") as file, h5py.File(good / "keras2.h5") as k2:
        group = file.create_group("model_weights")
        for name in k2:
            k2.copy(name, group)
        names = k2.attrs["layer_names"]
        group.attrs["layer_names0"] = names[:50]
        group.attrs["layer_names1"] = names[50:]
    randomise(network)
    load_weights(network, tmp_path / "w.h5")
    wanted = load_file(good / "ours.safetensors")
    assert all(np.array_equal(w, wanted[w.path]) for w in network.weights)


def test_frozen_and_dropout_networks_take_the_same_files(good):
    network = build_unet(**CONFIG.network_arguments() | {"dropout": 0.1})
    network.trainable = False
    wanted = load_file(good / "ours.safetensors")
    for name in ("checkpoint", "keras2.h5", "keras3.weights.h5"):
        load_weights(network, good / name)
        assert all(np.array_equal(w, wanted[w.path]) for w in network.weights)


def test_load_network_builds_and_loads(good):
    network = load_network(good / "run", read_config(good / "run"))
    assert network.input_shape[0] == (None, 16, 16, 3)
    wanted = load_file(good / "ours.safetensors")
    assert all(np.array_equal(w, wanted[w.path]) for w in network.weights)


def test_configuration_comes_back(good):
    assert read_config(good / "ours.safetensors") == CONFIG
    assert read_config(good / "run") == CONFIG


@pytest.mark.parametrize("name", ["checkpoint", "keras2.h5", "keras3.weights.h5"])
def test_formats_of_keras_hold_no_configuration(good, name):
    with pytest.raises(InputError) as error:
        read_config(good / name)
    assert str(error.value) == (
        f"{good / name}: weights of Keras hold no configuration; name one with --config"
    )


def test_find_weights(good, tmp_path):
    prefix = good / "checkpoint"
    for name in ("checkpoint", "checkpoint.index", "checkpoint.data-00000-of-00001"):
        assert find_weights(good / name) == prefix
    assert find_weights(str(good / "keras2.h5")) == good / "keras2.h5"
    assert find_weights(good / "run") == good / "run" / "weights.safetensors"


def test_training_images_are_carried(good, network, tmp_path):
    path = tmp_path / "weights.safetensors"
    images = TrainingImages(1020, "0f" * 32)
    save_weights(network, path, CONFIG, training_images=images)
    assert read_training_images(path) == images
    assert read_config(path) == CONFIG
    for name in ("ours.safetensors", "model.weights.h5", "checkpoint"):
        assert read_training_images(good / name) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "1 images", "0f" * 32, f"-1 images {'0f' * 32}", f"1 images {'0g' * 32}"),
        *(f"{'9' * 13} images {'0f' * 32}", f"1 images {'0f' * 33}"),
        *(f"1 images {'0f' * 32}\n", f"١ images {'0f' * 32}", "9" * 500_000),
    ],
)
def test_malformed_record_of_training_images_is_refused(tmp_path, text):
    path = tmp_path / "weights.safetensors"
    save_file({"a": np.zeros(3, "float32")}, path, {"training_images": text})
    with pytest.raises(InputError) as error:
        read_training_images(path)
    assert str(error.value) == (
        f"{path}: damaged, its record of training images is malformed; use another copy"
    )


def test_file_is_on_the_disk_before_it_has_its_name(network, tmp_path, monkeypatch):
    path, forced = tmp_path / "weights.safetensors", []

    def fsync(file):
        forced.append((os.fstat(file).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    save_weights(network, path, CONFIG)
    assert forced == [(path.stat().st_size, False)]


def test_places_on_this_machine_are_left_out(network, tmp_path):
    places = {
        "data_dir": "/home/ann/photos",
        "cache_dir": "/home/ann/cache",
        "initial_weights": "/home/ann/old",
    }
    config = CONFIG.model_copy(update={"dataset_name": "folder", **places})
    save_weights(network, tmp_path / "weights.safetensors", config)
    assert b"/home/ann" not in (tmp_path / "weights.safetensors").read_bytes()
    found = read_config(tmp_path / "weights.safetensors")
    assert found == config.model_copy(update=dict.fromkeys(places))


def test_file_that_is_cut_short_while_it_is_read_is_damaged(good, tmp_path):
    path = tmp_path / "weights.safetensors"
    shutil.copy(good / "ours.safetensors", path)
    arrays = read_safetensors(path)
    os.truncate(path, 30_000)  # in the middle of the arrays
    with pytest.raises(InputError, match="damaged; use another copy"):
        for array in arrays.values():
            array.read()


def test_network_beyond_the_memory_is_not_built(good, monkeypatch):
    monkeypatch.setattr("ddpm_keras.networks.total_memory", lambda: 2**20)
    monkeypatch.setattr("ddpm_keras.weights.build_network", None)
    for name in ("ours.safetensors", "keras2.h5"):
        with pytest.raises(InputError, match="this machine has 0 GB; make one of"):
            load_network(good / name, CONFIG)


# Mistakes. Each function writes `path` and returns what the error must say.


def another_architecture(path, good):
    other = CONFIG.model_copy(update={"has_attention": [True, False]})
    save_weights(build_unet(**other.network_arguments()), path, other)
    return "60 arrays differ: down_1_0_attention/norm/gamma is missing, not (32,); "


def another_architecture_in_keras_3(path, good):
    other = CONFIG.model_copy(update={"has_attention": [True, False]})
    save_hdf5(build_unet(**other.network_arguments()), path.with_suffix(".weights.h5"))
    path.with_suffix(".weights.h5").rename(path)
    return "60 arrays differ: down_1_0_attention/norm/gamma is missing, not (32,); "


def another_size(path, good):
    other = CONFIG.model_copy(update={"first_conv_channels": 8})
    save_weights(build_unet(**other.network_arguments()), path, other)
    return (
        "weights of another network, 143 arrays differ: time_dense_1/kernel is "
        "(32, 32), not (64, 64); time_dense_1/bias is (32,), not (64,); stem/kernel is "
        "(3, 3, 3, 8), not (3, 3, 3, 16)"
    )


def another_number_of_arrays_in_keras_2(path, good):
    shutil.copy(good / "keras2.h5", path)
    with h5py.File(path, "r+") as file:
        names = list(file.attrs["layer_names"])
        names.remove("conv2d_49")
        file.attrs["layer_names"] = names
    return "2 arrays differ: head/kernel is missing, not (3, 3, 16, 3); head/bias"


def text(path, good):
    path.write_text("first_conv_channels: 64\n" * 100)
    return (
        "a text file; use a run folder, a .safetensors, .weights.h5 or Keras 2 .h5 "
        "file, or the prefix of a TensorFlow checkpoint"
    )


def web_page(path, good):
    path.write_text("<!DOCTYPE html><title>404 \u2013 nicht gefunden</title>" * 9)
    return "a text file"


def empty(path, good):
    path.touch()
    return "an empty file"


def missing(path, good):
    return "no such file or folder; check the path"


def noise(path, good):
    path.write_bytes(bytes(range(1, 256)) * 9)
    return "a file of an unknown format"


def not_a_number(path, good):
    arrays = load_file(good / "ours.safetensors")
    arrays["head/bias"].fill(np.nan)
    save_file(arrays, path)
    return "head/bias is not finite; use other weights"


def infinite(path, good):
    shutil.copy(good / "keras3.weights.h5", path)
    with h5py.File(path, "r+") as file:
        file["layers/conv2d/vars/1"][3] = -np.inf
    return "stem/bias is not finite"


def keras_archive(path, good):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    network.save(path.with_suffix(".keras"))
    path.with_suffix(".keras").rename(path)
    return hostile_files.UNPACK


def pickled(path, good):
    path.write_bytes(pickle.dumps(load_file(good / "ours.safetensors")))
    return hostile_files.PICKLE


def cut_short(path, good):
    path.write_bytes((good / "ours.safetensors").read_bytes()[:-1])
    return "damaged; use another copy"


def cut_short_hdf5(path, good):
    path.write_bytes((good / "keras3.weights.h5").read_bytes()[:5000])
    return "damaged; use a file as Keras writes it"


def other_hdf5(path, good):
    with h5py.File(path, "w") as file:
        file["images"] = np.zeros((2, 2), "f4")
    return "holds no weights of such a network"


def folder_without_weights(path, good):
    path.mkdir()
    return (
        "no weights.safetensors in this folder; name a run folder that training has "
        "saved weights to, or a weights file"
    )


def folder_of_a_checkpoint(path, good):
    path.mkdir()
    shutil.copy(good / "checkpoint.index", path)
    return (
        "no weights.safetensors in this folder; name the checkpoint in it, "
        f"{path / 'checkpoint'}"
    )


def index_alone(path, good):
    shutil.copy(good / "checkpoint.index", f"{path}.index")
    return (
        ".data-00000-of-00001: no such file; it must be beside the checkpoint's index"
    )


def another_index(path, good):
    path.with_name(f"{path.name}.index").write_text("1,2,3")
    return ".index: not the index of a TensorFlow checkpoint; name the prefix of one"


def makers(module):
    """Return the functions of a module that make a file for a test."""
    return [
        function
        for function in vars(module).values()
        if inspect.isfunction(function)
        and list(inspect.signature(function).parameters) == ["path", "good"]
    ]


BAD = [sys.modules[__name__], hostile_hdf5, hostile_checkpoints, hostile_files]


@pytest.mark.parametrize("make", [make for module in BAD for make in makers(module)])
def test_bad_file_is_refused(good, network, tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    load_weights(network, good / "ours.safetensors")
    before = fingerprint(network)
    path = tmp_path / "weights"
    words = make(path, good)
    files = sorted(tmp_path.iterdir())
    with limits(), pytest.raises(InputError) as error:
        load_weights(network, path)
        load_network(path, read_config(path))  # as sample.py does
    message = str(error.value)
    assert message.startswith(str(path)) and words in message
    assert message.isprintable()  # one line, and nothing for the terminal
    assert fingerprint(network) == before
    assert sorted(tmp_path.iterdir()) == files  # no code was run


def test_modules_beside_the_file_are_not_imported(good, network, tmp_path):
    for name in ("h5py.py", "numpy.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit")
    shutil.copy(good / "keras3.weights.h5", tmp_path)
    with contextlib.chdir(tmp_path):
        load_weights(network, "keras3.weights.h5")
