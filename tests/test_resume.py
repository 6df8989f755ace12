"""Runs that are stopped in every way, and resume.

Each run is `ddpm-train` in a process of its own, with real signals.
"""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from whole_runs import assert_as_whole, copied, saved_steps

from ddpm_keras.runs import checkpoint

TESTS = Path(__file__).parent
TINY = """\
dataset_name: petals
num_images: 16
validation_fraction: 0.25
img_size: 8
batch_size: 3
first_conv_channels: 8
dropout: 0.1
total_timesteps: 20
learning_rate: 1e-3
ema: 0.5
num_epochs: 5
sample_every: 2
num_samples: 2
sample_steps: 2
save_every: 3
cache: disk
cache_dir: cache
seed: 11
"""
STEPS = 20  # 4 an epoch
# On JAX a run takes 13 seconds in place of 2.
SLOW_START = os.environ.get("KERAS_BACKEND") == "jax"


def times(quick, slow):
    """How often a test tries its fault: in `make test`, and in `make test-slow`."""
    return pytest.mark.parametrize(
        "times",
        [1 if SLOW_START else quick, pytest.param(slow, marks=pytest.mark.slow)],
        ids=["quick", "slow"],
    )


class Server:
    """Starts trainings, one at a time."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "tiny.yaml").write_text(TINY)
        environment = os.environ | {"PYTHONPATH": str(TESTS.parent)}
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "training_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
            env=environment,
        )

    def start(self, *argv):
        """Begin a training and return its process' number."""
        line = json.dumps([[str(word) for word in argv], str(self.folder / "output")])
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self):
        """The exit status of the training, negative for a signal."""
        return int(self.process.stdout.readline())

    def output(self):
        return (self.folder / "output").read_text()

    def run(self, *argv):
        self.start(*argv)
        return self.wait()

    def train(self, folder, *flags):
        """Run `tiny.yaml` in a folder, or go on there."""
        return self.run("--config", "tiny.yaml", "--run-dir", folder, *flags)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.process.stdin.close()
    server.process.wait()


@pytest.fixture(scope="module")
def whole(server):
    """A run that was never stopped, with its images in memory; the others' are not."""
    folder = server.folder / "whole"
    flags = ["--keep", STEPS, "--cache", "ram"]
    assert server.train(folder, *flags) == 0, server.output()
    assert saved_steps(folder) == [3, 6, 9, 12, 15, 18, 20]
    return folder


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


# Killed.


@times(3, 50)
def test_killed_runs_end_as_if_never_killed(server, whole, tmp_path, times):
    start = time.monotonic()
    server.train(tmp_path / "timed", "--save_every", 1)
    longest = 1.2 * (time.monotonic() - start)
    rng, done, runs = random.Random(times), 0, 0
    while done < times:
        folder = tmp_path / str(runs)
        done += kill_until_it_ends(server, folder, rng, longest)
        assert_as_whole(folder, whole)
        runs += 1


def kill_until_it_ends(server, folder, rng, longest):
    """Kill a run at random moments until it gets through; the number of kills."""
    for kills in range(100):
        process = server.start(
            *("--config", "tiny.yaml", "--run-dir", folder, "--resume"),
            *("--keep", 2, "--save_every", 1),
        )
        time.sleep(rng.uniform(0.0, longest))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
        status = server.wait()
        if status != -signal.SIGKILL:
            assert status == 0, server.output()
            return kills
    pytest.fail("the run never ended")


# Signals.


def start_and_wait_for_step(server, folder, step, *flags):
    """A run that has at least begun the step after that one, and its process."""
    process = server.start(
        *("--config", "tiny.yaml", "--run-dir", folder, "--resume"),
        *("--keep", STEPS, "--save_every", 1, *flags),
    )
    wait_for(lambda: any(saved >= step for saved in saved_steps(folder)))
    return process


@times(1, 20)
def test_sigterm_saves_and_prints_how_to_resume(server, whole, tmp_path, times):
    for k in range(times):
        folder = tmp_path / str(k)
        process = start_and_wait_for_step(server, folder, 1 + (5 + k) % 16)
        os.kill(process, signal.SIGTERM)
        assert server.wait() == 143
        step = max(saved_steps(folder))
        assert server.output().splitlines()[-1] == (
            f"stopped: after step {step} of 20; resume with: ddpm-train --run-dir "
            f"{folder} --resume"
        )
        assert server.run("--run-dir", folder, "--resume", "--save_every", 3) == 0
        assert f"resumed: after step {step} of 20" in server.output()
        assert_as_whole(folder, whole)


@times(1, 10)
def test_second_ctrl_c_stops_at_once(server, whole, tmp_path, times):
    for k in range(times):
        folder = tmp_path / str(k)
        process = start_and_wait_for_step(server, folder, 5)
        os.kill(process, signal.SIGINT)
        wait_for(lambda: "SIGINT: stopping" in server.output())
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGINT)
        assert server.wait() == 130
        assert server.train(folder, "--resume", "--keep", STEPS) == 0
        assert_as_whole(folder, whole)


def signalled_in_a_save(process, folder):
    """Send SIGTERM in a save; False where the run ended before one was seen."""
    while not list((folder / "checkpoints").glob(".step-*.tmp")):
        if max(saved_steps(folder)) >= STEPS - 2:
            return False
        time.sleep(0.001)
    os.kill(process, signal.SIGTERM)
    return True


@times(1, 10)
def test_signal_during_a_save_loses_nothing(server, whole, tmp_path, times):
    for k in range(times):
        for attempt in range(20):
            folder = tmp_path / f"{k}_{attempt}"
            process = start_and_wait_for_step(server, folder, 2 + k)
            if signalled_in_a_save(process, folder):
                break
            assert server.wait() == 0
        else:
            pytest.fail("no save was seen in 20 runs")
        assert server.wait() == 143
        assert not list(folder.rglob("*.tmp"))
        assert server.train(folder, "--resume") == 0
        assert_as_whole(folder, whole)


# The places of a stop; what depends on the seed.


@pytest.fixture(scope="module")
def every_step(server, whole):
    """As `whole`, with a checkpoint of every step."""
    folder = server.folder / "every_step"
    assert server.train(folder, "--keep", STEPS, "--save_every", 1) == 0
    assert saved_steps(folder) == list(range(1, STEPS + 1))
    assert_as_whole(folder, whole)
    return folder


@pytest.mark.parametrize("step", [6] if SLOW_START else [1, 4, 6, 19])
def test_goes_on_from_any_step(server, every_step, whole, tmp_path, step):
    folder = copied(every_step, tmp_path / "run", step)
    assert server.train(folder, "--resume") == 0
    assert_as_whole(folder, whole)


def test_grid_that_a_stop_prevented_is_drawn(server, every_step, whole, tmp_path):
    folder = copied(every_step, tmp_path / "run", 8)
    shutil.rmtree(folder / "samples")
    assert server.train(folder, "--resume") == 0
    assert_as_whole(folder, whole)


def test_ended_run_has_nothing_to_do(server, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")

    def times():
        kept = [*folder.rglob("*.safetensors"), *folder.rglob("*.png")]
        for remade in ("loss.png", "weights.safetensors"):
            kept.remove(folder / remade)
        return {path: path.stat().st_mtime_ns for path in [*kept, folder / "log.csv"]}

    before = times()
    assert server.run("--run-dir", folder, "--resume") == 0
    wanted = f"nothing to do: {folder} has done its 5 epochs"
    assert server.output().splitlines()[-1] == wanted
    assert times() == before


def test_run_killed_before_its_last_pictures_gets_them(server, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "samples" / "epoch-0005.png").unlink()
    (folder / "report.html").unlink()
    (folder / "weights.safetensors").unlink()
    (folder / "samples" / ".epoch-0005.png.77.tmp").write_bytes(b"half")
    (folder / ".loss.png.77.tmp").touch()
    assert server.run("--run-dir", folder, "--resume") == 0
    assert_as_whole(folder, whole)
    assert (folder / "report.html").exists()


def test_ended_run_takes_more_epochs(server, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "run")
    assert server.run("--run-dir", folder, "--resume", "--num_epochs", 6) == 0
    assert "changed: num_epochs (was 5, is 6)" in server.output()
    assert server.train(tmp_path / "six", "--num_epochs", 6) == 0
    logs = [f / "log.csv" for f in (folder, tmp_path / "six")]
    assert logs[0].read_bytes() == logs[1].read_bytes()
    assert len(logs[0].read_text().splitlines()) == 7


def test_another_seed_is_another_run(server, whole, tmp_path):
    assert server.train(tmp_path / "run", "--seed", 12) == 0
    assert (tmp_path / "run" / "log.csv").read_text() != (whole / "log.csv").read_text()


# Refusals.


def refusal(server, status, *argv):
    assert server.run(*argv) == status
    *_, line = server.output().splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def test_folder_with_a_run_needs_resume(server, whole):
    line = refusal(server, 2, "--config", "tiny.yaml", "--run-dir", whole)
    assert f"--run-dir: {whole} holds a run; add --resume" in line


@pytest.mark.parametrize(
    "key, was, value",
    [
        ("first_conv_channels", 8, 16),
        ("optimizer", "adam", "sgd"),
        ("dataset_name", "petals", "oxford_flowers102"),
        ("batch_size", 3, 4),
        ("seed", 11, 12),
        ("ema", 0.5, 0.9),
    ],
)
def test_other_keys_are_refused(server, whole, key, was, value):
    argv = ["--run-dir", whole, "--resume", f"--{key}", value]
    assert f"{key} (was {was}, is {value});" in refusal(server, 2, *argv)


def test_all_keys_that_differ_are_reported(server, whole):
    argv = ["--run-dir", whole, "--resume", "--seed", 12, "--ema", 0.75, "--keep", 1]
    assert refusal(server, 2, *argv) == (
        f"--resume: {whole} was begun with other values of seed (was 11, is 12), ema "
        "(was 0.5, is 0.75); leave them as they were, or start a new run"
    )


def test_other_images_are_refused(server, tmp_path):
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    for k in range(16):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(images / f"{k}.png")
    flags = ["--dataset_name", "folder", "--data_dir", images]
    flags += ["--validation_fraction", 0]
    folder = tmp_path / "run"
    assert server.train(folder, "--num_epochs", 1, *flags) == 0
    Image.new("RGB", (8, 8), (0, 0, 200)).save(images / "0.png")
    before = (folder / "config.yaml").read_bytes()
    argv = ["--run-dir", folder, "--resume", "--num_epochs", 2]
    line = refusal(server, 2, *argv)
    assert f"--resume: the training images are not those that {folder} was" in line
    assert (folder / "config.yaml").read_bytes() == before


def test_second_run_in_a_folder_is_refused(server, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with checkpoint.lock(folder):
        line = refusal(server, 2, "--run-dir", folder, "--config", "tiny.yaml")
        assert re.fullmatch(r"--run-dir: .* is not empty, .*", line)
        shutil.copy(server.folder / "tiny.yaml", folder / "config.yaml")
        line = refusal(server, 2, "--run-dir", folder, "--resume")
        assert re.fullmatch(rf"{folder}: another run works here: .*, pid \d+, .*", line)


def test_another_machine_goes_on_with_a_warning(server, whole, tmp_path):
    folder = copied(whole, tmp_path / "run", 6)
    step, arrays, facts = checkpoint.restore(folder)
    shutil.rmtree(folder / "checkpoints")
    facts["machine"] = {"backend": "torch", "torch": "2.6.0", "cores": 96}
    checkpoint.save(folder, step, arrays, facts, keep=1)
    assert server.train(folder, "--resume") == 0
    (line,) = [s for s in server.output().splitlines() if s.startswith("warning: ")]
    assert "backend torch -> " in line and "cores 96 -> " in line
    assert line.endswith(": the run resumes, but not bit for bit as before")


# Damage and divergence.


def test_damaged_checkpoint_is_set_aside(server, every_step, whole, tmp_path):
    folder = copied(every_step, tmp_path / "run", 7)
    path = folder / "checkpoints" / "step-00000007" / "arrays.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert server.train(folder, "--resume") == 0
    output = server.output()
    assert "warning: " in output and "step-00000006 is used" in output
    assert "resumed: after step 6 of 20" in output
    shutil.rmtree(folder / "checkpoints" / "step-00000007.bad")
    assert_as_whole(folder, whole)


def test_no_fresh_start_over_damaged_checkpoints(server, whole, tmp_path):
    folder = copied(whole, tmp_path / "run", 6)
    for path in (folder / "checkpoints").glob("*/manifest.json"):
        path.unlink()
    line = refusal(server, 2, "--run-dir", folder, "--resume")
    assert line.startswith(f"{folder}/checkpoints: none of 2 is whole; bring one back")
    assert saved_steps(folder) == [3, 6]


def test_divergence_stops_and_the_last_finite_step_goes_on(server, tmp_path):
    folder = tmp_path / "run"
    argv = ["--config", "tiny.yaml", "--run-dir", folder, "--learning_rate", "1e20"]
    line = refusal(server, 1, *argv, "--save_every", 1)
    assert re.fullmatch(
        r"step 12: \d+ steps in a row had no finite gradients; nothing was "
        r"changed \(loss (nan|inf), learning_rate 1e\+20\); go on from the last "
        r"checkpoint with --resume and a lower --learning_rate",
        line,
    )
    for path in folder.rglob("*.safetensors"):
        assert all(np.isfinite(array).all() for array in load_file(path).values())
    step = max(saved_steps(folder))
    argv = ["--run-dir", folder, "--resume", "--learning_rate", 1e-4]
    assert server.run(*argv) in (0, 1)
    assert f"resumed: after step {step} of 20" in server.output()
    assert "changed: learning_rate (was 1e+20, is 0.0001)" in server.output()
