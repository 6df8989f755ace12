"""Two virtual processors, or two hosts, train as one processor does."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ddpm_keras.backend import all_devices, distributed, join_hosts
from ddpm_keras.config import Config
from ddpm_keras.errors import InputError

TESTS = Path(__file__).parent
# Trains with as many virtual processors as the first word says.
CODE = """
import json, os, sys
count, backend, argv, output = json.loads(sys.argv[1])
if backend == "jax":
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={count}"
else:
    import tensorflow as tf
    (processor,) = tf.config.list_physical_devices("CPU")
    parts = [tf.config.LogicalDeviceConfiguration()] * count
    tf.config.set_logical_device_configuration(processor, parts)
from training_server import train
sys.exit(train(argv, output))  # as scripts do; hosts take leave of each other then
"""
TINY = """\
dataset_name: petals
num_images: 23
class_labels: true
validation_fraction: 0.2
augment: 0.5
img_size: 8
batch_size: 4
first_conv_channels: 8
prediction_type: v_prediction
total_timesteps: 20
snr_gamma: 5.0
learning_rate: 1e-3
ema: 0.5
ema_warmup_power: 0.75
num_epochs: 2
num_samples: 2
seed: 6
"""


ON_JAX = os.environ.get("KERAS_BACKEND") == "jax"


def start(count, *argv, folder, output, **variables):
    """A process that trains with so many devices."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    words = [count, backend, [str(word) for word in argv], str(output)]
    variables["PYTHONPATH"] = f"{TESTS}:{TESTS.parent}"
    command = [sys.executable, "-c", CODE, json.dumps(words)]
    return subprocess.Popen(command, env=os.environ | variables, cwd=folder)


def train(count, *argv, folder, status=0):
    """Train in a process with so many devices, which is to end so; the output."""
    output = folder / "output"
    found = start(count, *argv, folder=folder, output=output).wait()
    assert found == status, output.read_text()
    return output.read_text()


def train_on_two_hosts(*argv, runs, folder):
    """Train in two processes that share each batch; their statuses and outputs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    outputs = [folder / f"output_{number}" for number in range(2)]
    processes = [
        start(
            1,
            *(*argv, "--run-dir", run),
            folder=folder,
            output=output,
            KERAS_DISTRIBUTION_JOB_ADDRESSES=address,
            KERAS_DISTRIBUTION_NUM_PROCESSES="2",
            KERAS_DISTRIBUTION_PROCESS_ID=str(number),
        )
        for number, (run, output) in enumerate(zip(runs, outputs, strict=True))
    ]
    return [p.wait() for p in processes], [o.read_text() for o in outputs]


def assert_close(found, wanted):
    found, wanted = load_file(found), load_file(wanted)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, atol=1e-5, rtol=1e-5)


def test_two_devices_do_what_one_does(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    argv = ["--config", "tiny.yaml", "--run-dir"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert "devices:" not in train(1, *argv, one, folder=tmp_path)
    assert "devices: 2, sharing each batch" in train(2, *argv, two, folder=tmp_path)

    last = Path("checkpoints", "step-00000008", "arrays.safetensors")
    assert_close(two / last, one / last)
    logs = [np.genfromtxt(f / "log.csv", delimiter=",")[1:] for f in (one, two)]
    np.testing.assert_allclose(*logs, atol=1e-5)
    assert (two / "samples" / "epoch-0002.png").exists()

    # Each goes on from the other's checkpoint.
    for count, folder in ((2, one), (1, two)):
        flags = ["--run-dir", folder, "--resume", "--num_epochs", 3]
        assert "resumed: after step 8 of 12" in train(count, *flags, folder=tmp_path)
    last = Path("checkpoints", "step-00000012", "arrays.safetensors")
    assert_close(two / last, one / last)


def test_divergence_of_two_devices_is_reported(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    argv = ["--config", "tiny.yaml", "--learning_rate", 1e20, "--num_epochs", 9]
    output = train(2, *argv, folder=tmp_path, status=1)
    assert "steps in a row had no finite gradients; nothing was changed" in output


@pytest.mark.skipif(not ON_JAX, reason="Keras trains on several hosts only there")
def test_two_hosts_do_what_one_does(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    one, *runs = (tmp_path / name for name in ("one", "first", "second"))
    train(1, "--config", "tiny.yaml", "--run-dir", one, folder=tmp_path)
    statuses, outputs = train_on_two_hosts(
        "--config", "tiny.yaml", runs=runs, folder=tmp_path
    )
    assert statuses == [0, 0], outputs
    assert all("devices: 2, sharing each batch" in output for output in outputs)
    last = Path("checkpoints", "step-00000008", "arrays.safetensors")
    logs = [np.genfromtxt(f / "log.csv", delimiter=",")[1:] for f in (one, *runs)]
    for folder, log in zip(runs, logs[1:], strict=True):
        assert_close(folder / last, one / last)
        np.testing.assert_allclose(log, logs[0], atol=1e-5)
        assert (folder / "samples" / "epoch-0002.png").exists()

    more = ["--resume", "--num_epochs", 3]
    shutil.rmtree(runs[1] / last.parent)
    statuses, outputs = train_on_two_hosts(*more, runs=runs, folder=tmp_path)
    assert statuses == [2, 2]
    assert all(
        "error: --resume: the hosts' newest checkpoints are of steps [8, 0]; "
        "copy the checkpoints of one to the others" in output
        for output in outputs
    )
    shutil.copytree(runs[0] / last.parent, runs[1] / last.parent)
    statuses, outputs = train_on_two_hosts(*more, runs=runs, folder=tmp_path)
    assert statuses == [0, 0], outputs
    assert all("resumed: after step 8 of 12" in output for output in outputs)


@pytest.mark.skipif(ON_JAX, reason="JAX has several hosts")
def test_several_hosts_are_refused_on_tensorflow(monkeypatch):
    monkeypatch.setenv("KERAS_DISTRIBUTION_JOB_ADDRESSES", "127.0.0.1:1234")
    with pytest.raises(InputError) as error:
        join_hosts()
    assert str(error.value) == (
        "KERAS_DISTRIBUTION_JOB_ADDRESSES: several hosts need KERAS_BACKEND=jax"
    )


REPLICAS = """
import tensorflow as tf
(processor,) = tf.config.list_physical_devices("CPU")
parts = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(processor, parts)
import numpy as np
from ddpm_keras import Config, draw_flowers
from ddpm_keras.data.batches import make_batches
from ddpm_keras.backend import distributed
from ddpm_keras.runs import build
from training_server import use_convolution
use_convolution()
with distributed(4) as count:
    assert count == 2
    model = build.build_model(Config(img_size=8, first_conv_channels=8, ema=0.5))
    batches, steps = make_batches(draw_flowers(8, 8), 4, 3)
    model.fit(batches, steps_per_epoch=steps, epochs=3, verbose=0)
    for variable in [*model.variables, *model.optimizer.variables]:
        first, second = variable.value.values
        np.testing.assert_array_equal(first.numpy(), second.numpy(), variable.path)
"""


@pytest.mark.skipif(ON_JAX, reason="JAX has one copy of a variable")
def test_all_replicas_hold_the_same():
    environment = os.environ | {"PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    subprocess.run([sys.executable, "-c", REPLICAS], env=environment, check=True)


def test_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr("ddpm_keras.backend.all_devices", lambda: ["a", "b", "c"])
    with pytest.raises(InputError) as error, distributed(32):
        pass
    assert str(error.value) == (
        "batch_size: 32 images cannot be shared equally among 3 devices; use a "
        "multiple, or distribute: none"
    )
    with distributed(32, "none") as count:
        assert count == 1


def test_one_device_changes_nothing():
    assert len(all_devices()) == 1
    with distributed(Config().batch_size) as count:
        assert count == 1
