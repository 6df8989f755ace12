"""Batches in parts: the same results as whole, and when TensorFlow is set up for it."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

from ddpm_keras import devices, parts
from ddpm_keras.backend import compile_calls
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.model import DiffusionModel
from ddpm_keras.optimizers import Adam
from ddpm_keras.parts import call_in_parts

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow has parts"
)


@pytest.fixture
def in_parts(monkeypatch):
    """A function that lets batches be computed in so many parts."""

    def set_number(number):
        monkeypatch.setattr(parts, "num_parts", lambda: number)

    return set_number


def inputs_of(size):
    rng = np.random.default_rng(size)
    images = rng.normal(size=(size, 8, 8, 3)).astype("float32")
    return [ops.convert_to_tensor(images), ops.arange(size, dtype="int32")]


@on_tensorflow
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("known", [True, False])
def test_parts_give_what_the_whole_gives(make_network, in_parts, size, known):
    check_parts(make_network(), in_parts, size, known)


@on_tensorflow
@pytest.mark.parametrize("training, traces", [(True, 3), (False, 1)])
def test_only_state_that_changes_has_each_part_traced(
    make_network, in_parts, training, traces
):
    state = [keras.Variable(0.0)]
    check_parts(make_network(), in_parts, 5, True, training, traces, state)


def check_parts(network, in_parts, size, known, training=True, traces=1, state=()):
    """Compare three parts of a batch with the whole; count the network's traces."""
    import tensorflow as tf

    inputs, sizes = inputs_of(size), []

    def network_that_counts(some, training):
        sizes.append(some[0].shape[0])
        return network(some, training=training)

    network_that_counts.non_trainable_variables = state

    in_parts(3)
    shape = (size,) if known else (None,)
    signature = [tf.TensorSpec((*shape, *x.shape[1:]), x.dtype) for x in inputs]
    call = tf.function(
        lambda *some: call_in_parts(network_that_counts, some, training), signature
    )
    whole = network(inputs, training=training)
    np.testing.assert_allclose(call(*inputs), whole, rtol=1e-5, atol=1e-5)
    number = min(size, 3) if known else 3
    assert sizes == [-(-size // number) if known else None] * traces


@on_tensorflow
def test_training_and_sampling_change_by_no_more_than_rounding(make_network, in_parts):
    images = np.random.default_rng(0).uniform(-1.0, 1.0, (10, 8, 8, 3))
    found = []
    for number in (1, 2):
        in_parts(number)
        diffusion = GaussianDiffusion(timesteps=20)
        model = DiffusionModel(make_network(), diffusion=diffusion, seed=3)
        model.compile(loss="mean_squared_error", optimizer=Adam(1e-3))
        options = {"batch_size": 4, "shuffle": False, "verbose": 0}  # a part of 2 last
        model.fit(images.astype("float32"), epochs=2, **options)
        samples = model.generate_images(5, steps=20, seed=1, verbose=0)
        found.append([*model.network.get_weights(), samples])
    for whole, in_two in zip(*found, strict=True):
        np.testing.assert_allclose(in_two, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [1, 2])
def test_whole_batches_where_nothing_is_traced_or_no_part_asked_for(
    make_network, in_parts, number
):
    in_parts(number)
    calls = []

    def network(some, training):
        calls.append(len(some[0]))
        return some[0]

    call_in_parts(network, inputs_of(4), training=False)
    if number == 1:
        traced = compile_calls(
            lambda *some: call_in_parts(network, some, False), make_network()
        )
        traced(*inputs_of(4))
    assert calls == [4] * (3 - number)


SETUP = """
import ddpm_keras.devices as devices
devices.count_cores = lambda: {cores}
devices.one_thread_each()
import tensorflow as tf
threading = tf.config.threading
print(threading.get_intra_op_parallelism_threads(), devices.num_parts())
"""


@pytest.mark.parametrize(
    "cores, environment, expected",
    [
        (2, {}, "1 2"),
        (4, {}, "1 4"),
        (1, {}, "0 1"),
        (5, {}, "0 1"),
        (2, {"TF_NUM_INTRAOP_THREADS": "2"}, "0 1"),
        (2, {"TF_NUM_INTEROP_THREADS": "1"}, "0 1"),
        (2, {"KERAS_BACKEND": "jax"}, "0 1"),
    ],
)
def test_threads_are_set_where_it_helps(cores, environment, expected):
    others = {**without_threads(), "KERAS_BACKEND": "tensorflow"}
    if "KERAS_BACKEND" in environment:
        pytest.importorskip("jax")
    run = subprocess.run(
        [sys.executable, "-c", SETUP.format(cores=cores)],
        env={**others, "CUDA_VISIBLE_DEVICES": "-1", **environment},
        capture_output=True,
        text=True,
    )
    assert run.stdout.strip() == expected, run.stderr


@pytest.mark.parametrize("module", ["model", "denoiser"])
def test_training_and_sampling_call_networks_in_parts(
    make_network, monkeypatch, module
):
    calls = []

    def counting(network, inputs, training):
        calls.append(training)
        return call_in_parts(network, inputs, training)

    monkeypatch.setattr(f"ddpm_keras.{module}.call_in_parts", counting)
    diffusion = GaussianDiffusion(timesteps=20)
    model = DiffusionModel(make_network(), diffusion=diffusion, seed=3)
    model.compile(loss="mean_squared_error", optimizer=Adam(1e-3))
    if module == "model":
        images = np.zeros((4, 8, 8, 3), "float32")
        model.fit(images, validation_data=(images,), batch_size=4, verbose=0)
        assert set(calls) == {True, False}
    else:
        model.generate_images(4, steps=2, verbose=0)
        assert calls and not any(calls)


def test_commands_set_the_threads():
    code = (
        "from ddpm_keras import devices; devices.count_cores = lambda: 2; "
        "from ddpm_keras.cli.command import import_keras; import_keras(); "
        "print(devices.num_parts())"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=without_threads() | {"CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
    )
    expected = 2 if keras.backend.backend() == "tensorflow" else 1
    assert run.stdout.strip() == str(expected), run.stderr


def test_numbers_of_threads_that_are_no_numbers_change_nothing(monkeypatch):
    monkeypatch.setattr(devices, "count_cores", lambda: 2)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "auto")
    devices.one_thread_each()
    assert devices.num_parts() == 1


def without_threads():
    """The environment without numbers of threads."""
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return {name: value for name, value in os.environ.items() if name not in names}


def test_a_program_that_has_begun_keeps_its_threads(monkeypatch):
    ops.zeros(1)
    before = devices.kernel_settings()
    monkeypatch.setattr(devices, "count_cores", lambda: 2)
    devices.one_thread_each()
    assert devices.kernel_settings() == before
    assert devices.num_parts() == 1
