"""`ddpm-sample` interrupted, killed, and on a full disk."""

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from PIL import Image
from sample_command import CONFIG, SCRIPT, pixels_of, sample
from saved_run import save_run

from ddpm_keras.sampling import ReverseProcess


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stops") / "run"
    save_run(folder, CONFIG)
    return folder


@contextlib.contextmanager
def endless(run, out):
    """The command in a process of its own, in the midst of writing many PNGs.

    With one step an image and large batches, it mostly writes.
    """
    argv = f"--sampler ddim --steps 1 --num-images 1000000 --batch-size 500 --out {out}"
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), "--weights", str(run), *argv.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until = time.monotonic() + 120
        while not list(out.glob("*.png")):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.communicate()


def interrupt_in_batch(monkeypatch, number, stop=signal.SIGINT):
    """Send the process a signal while batch `number` is computed."""
    count, whole = 0, ReverseProcess.run

    def interrupted(self, *args, **options):
        nonlocal count
        for state in whole(self, *args, **options):
            yield state
            if count == number:
                signal.raise_signal(stop)
        count += 1

    monkeypatch.setattr(ReverseProcess, "run", interrupted)


@pytest.mark.slow
def test_ctrl_c_leaves_the_finished_pngs_whole(run, tmp_path):
    """As the next test, with a real signal at any moment."""
    out = tmp_path / "out"
    with endless(run, out) as process:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    count = int(re.search(r"samples: .* \((\d+) of 1000000\)", output)[1])
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"{seed:06d}.png" for seed in range(count)]
    assert count % 500 == 0 < count
    assert all(pixels_of(out / name).shape == (8, 12, 3) for name in names[::97])


@pytest.mark.parametrize(
    "name, stop, status",
    [
        ("grid.png", signal.SIGINT, 130),
        ("images.npz", signal.SIGINT, 130),
        ("images", signal.SIGINT, 130),
        ("images", signal.SIGHUP, 129),
        ("images.npz", signal.SIGTERM, 143),
    ],
)
def test_signal_leaves_the_finished_batches(
    run, tmp_path, monkeypatch, name, stop, status
):
    argv = f"--weights {run} --num-images 10 --batch-size 2 --steps 4 --out"
    sample(f"{argv} {tmp_path}/whole.npz")
    interrupt_in_batch(monkeypatch, 2, stop)
    before = signal.getsignal(stop)
    output, _ = sample(f"{argv} {tmp_path}/{name}", status=status)
    assert signal.getsignal(stop) == before
    assert f"samples: {tmp_path}/{name} (4 of 10)" in output
    if name == "images.npz":
        with np.load(tmp_path / "whole.npz") as whole, np.load(tmp_path / name) as part:
            np.testing.assert_array_equal(part["seeds"], np.arange(4))
            np.testing.assert_array_equal(part["images"], whole["images"][:4])
    elif name == "images":
        assert sorted(contents(tmp_path / name)) == [f"00000{k}.png" for k in range(4)]
    else:
        assert pixels_of(tmp_path / name).shape == (2 * 8 + 6, 2 * 12 + 6, 3)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_stopped_folder_goes_on_with_what_is_missing(run, tmp_path, monkeypatch):
    argv = f"--weights {run} --num-images 9 --batch-size 2 --steps 2 --out"
    sample(f"{argv} {tmp_path}/whole")
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt_in_batch(patch, 3)
        output, _ = sample(f"{argv} {out}", status=130)
    assert f"samples: {out} (6 of 9)" in output
    (out / "000001.png").unlink()
    (out / ".000007.png.k3_2abcd.tmp").mkdir()  # left by a process that was killed
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    output, _ = sample(f"{argv} {out}")
    assert "resumed: 5 of 9 images are there" in output
    assert f"samples: {out} (9 of 9)" in output
    assert contents(out) == contents(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    output, _ = sample(f"{argv} {out}")
    assert "resumed: 9 of 9 images are there" in output
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    "change, message",
    [
        ("--steps 3", "000000.png is of another sampling (steps 2, not 3);"),
        (
            "--sampler ddim",
            "000000.png is of another sampling (sampler ddpm, not ddim)",
        ),
        ("--no-clip", "000000.png is of another sampling (clipped None, not False);"),
        ("--num-images 3", "000000.png is of another sampling (seeds 0-1, not 0-2);"),
        ("--seed 7", "is of another sampling; name another folder or use --force"),
        ("--gif a.gif", "out exists; name another or use --force"),
    ],
)
def test_folder_of_another_sampling_is_refused_and_kept(run, tmp_path, change, message):
    out = tmp_path / "out"
    argv = f"--weights {run} --num-images 2 --steps 2 --out {out}"
    sample(argv)
    before = contents(out)
    _, errors = sample(f"{argv} {change}", status=2)
    assert message in errors and errors.count("\n") == 1
    assert contents(out) == before


def test_folder_of_another_backend_or_process_is_refused(run, tmp_path, monkeypatch):
    argv = f"--weights {run} --num-images 2 --steps 2 --out {tmp_path}/out"
    sample(argv)
    other = CONFIG.model_copy(update={"schedule": "cosine"})
    (tmp_path / "c.yaml").write_text(other.to_yaml())
    _, errors = sample(f"{argv} --config {tmp_path}/c.yaml", status=2)
    assert "is of another sampling (diffusion " in errors
    monkeypatch.setattr(keras.backend, "backend", lambda: "other")
    _, errors = sample(argv, status=2)
    assert "is of another sampling (backend " in errors


def test_folder_from_an_image_that_has_changed_is_refused(run, tmp_path):
    image = tmp_path / "start.png"
    argv = f"--weights {run} --num-images 2 --steps 4 --start-from {image}"
    for colour in ("red", "blue"):
        Image.new("RGB", (12, 8), colour).save(image)
        status = 0 if colour == "red" else 2
        _, errors = sample(f"{argv} --out {tmp_path}/out", status=status)
    assert "is of another sampling (start_sha256 " in errors


@pytest.mark.parametrize("name", ["grid.png", "images.npz", "images"])
def test_any_error_leaves_the_finished_batches(run, tmp_path, monkeypatch, name):
    def fail(number):
        raise ZeroDivisionError

    monkeypatch.setattr(signal, "raise_signal", fail)
    interrupt_in_batch(monkeypatch, 2)
    with pytest.raises(ZeroDivisionError):
        argv = f"--weights {run} --num-images 6 --batch-size 2 --steps 2"
        sample(f"{argv} --out {tmp_path}/{name}")
    if name == "images.npz":
        with np.load(tmp_path / name) as part:
            assert part["seeds"].tolist() == [0, 1, 2, 3]
    elif name == "images":
        assert len(contents(tmp_path / name)) == 4
    else:
        assert (tmp_path / name).is_file()


@pytest.mark.parametrize("name", ["grid.png", "images.npz", "images"])
def test_ctrl_c_in_the_first_batch_leaves_nothing(run, tmp_path, monkeypatch, name):
    interrupt_in_batch(monkeypatch, 0)
    argv = f"--weights {run} --num-images 4 --gif {tmp_path}/a.gif --out {tmp_path}"
    sample(f"{argv}/{name}", status=130)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "kills", [1, pytest.param(20, marks=pytest.mark.slow)], ids="{} kills".format
)
def test_killed_while_writing_leaves_no_half_png(run, tmp_path, kills):
    pauses = np.random.default_rng(0).uniform(0, 0.5, kills)

    def kill(k):
        with endless(run, tmp_path / str(k)) as process:
            time.sleep(pauses[k])
            process.send_signal(signal.SIGKILL)
            process.wait()

    with ThreadPoolExecutor(3) as pool:  # else it mostly waits for processes to start
        list(pool.map(kill, range(kills)))
    paths = list(tmp_path.glob("*/*.png"))
    assert len(paths) >= kills
    for path in paths:
        with Image.open(path) as image:
            image.load()  # raises for a half file
            assert image.text["seed"] == str(int(path.stem))


@pytest.mark.parametrize(
    "name, file",
    [("grid.png", "grid.png"), ("a.npz", "a.npz"), ("out", "out/000000.png")],
)
def test_full_disk_is_one_line_and_status_1(run, tmp_path, name, file):
    """The system refuses to let a file grow beyond 100 bytes, as a full disk would."""
    argv = f"--weights {run} --num-images 4 --steps 1 --out {tmp_path}/{name}"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        _, errors = sample(argv, status=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert errors == (
        f"error: {tmp_path / file}: cannot be written (File too large); make room or "
        "name another place\n"
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_reported(run, tmp_path):
    tmp_path.chmod(0o500)
    argv = f"--weights {run} --out {tmp_path}/grid.png"
    assert "--out: cannot write to" in sample(argv, status=2)[1]
