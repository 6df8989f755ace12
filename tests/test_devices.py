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
from run_script import run_script
from safetensors.numpy import load_file

from ddpm_keras.config import Config
from ddpm_keras.devices import all_devices, distributed, join_hosts
from ddpm_keras.errors import InputError

TESTS = Path(__file__).parent
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


def start(count, *runs, folder, **variables):
    """A process with so many devices; of each training the arguments and the output."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    runs = [([str(word) for word in argv], str(output)) for argv, output in runs]
    variables["PYTHONPATH"] = f"{TESTS}:{TESTS.parent}"
    command = [sys.executable, str(TESTS / "several_devices.py")]
    command.append(json.dumps([count, backend, runs]))
    return subprocess.Popen(command, env=os.environ | variables, cwd=folder)


def train_on_two_hosts(*argv, runs, folder):
    """Train in two processes that share each batch; their statuses and outputs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    outputs = [folder / f"output_{number}" for number in range(2)]
    processes = [
        start(
            1,
            ([*argv, "--run-dir", run], output),
            folder=folder,
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


def train_here(*argv):
    """Train on the one device of this process; the output."""
    return run_script("train", " ".join(map(str, argv)))[0]


@pytest.mark.usefixtures("convolution")
def test_two_devices_do_what_one_does(tmp_path):
    """The process with two also compares their variables, and diverges at the end."""
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(TINY)
    one, two = tmp_path / "one", tmp_path / "two"
    assert "devices:" not in train_here("--config", tiny, "--run-dir", one)
    shutil.copytree(one, tmp_path / "ended")

    more = ["--resume", "--num_epochs", 3]
    argvs = [
        ["--config", tiny, "--run-dir", two],
        ["--run-dir", one, *more],  # goes on from the other's checkpoint
        ["--config", tiny, "--learning_rate", 1e20, "--num_epochs", 9],
    ]
    outputs = [tmp_path / f"output_{k}" for k in range(3)]
    process = start(2, *zip(argvs, outputs, strict=True), folder=tmp_path)
    assert process.wait() == 1
    first, second, third = (output.read_text() for output in outputs)
    assert "devices: 2, sharing each batch" in first
    assert "resumed: after step 8 of 12" in second
    assert "steps in a row had no finite gradients; nothing was changed" in third

    last = Path("checkpoints", "step-00000008", "arrays.safetensors")
    assert_close(two / last, tmp_path / "ended" / last)
    logs = [
        np.genfromtxt(folder / "log.csv", delimiter=",")[1:]
        for folder in (tmp_path / "ended", two)
    ]
    np.testing.assert_allclose(*logs, atol=1e-5)
    assert (two / "samples" / "epoch-0002.png").exists()

    assert "resumed: after step 8 of 12" in train_here("--run-dir", two, *more)
    last = Path("checkpoints", "step-00000012", "arrays.safetensors")
    assert_close(two / last, one / last)


@pytest.mark.usefixtures("convolution")
@pytest.mark.skipif(not ON_JAX, reason="Keras trains on several hosts only there")
def test_two_hosts_do_what_one_does(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    one, *runs = (tmp_path / name for name in ("one", "first", "second"))
    train_here("--config", tmp_path / "tiny.yaml", "--run-dir", one)
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


def test_batch_that_cannot_be_shared_is_refused(monkeypatch):
    monkeypatch.setattr("ddpm_keras.devices.all_devices", lambda: ["a", "b", "c"])
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
