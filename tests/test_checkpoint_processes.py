"""One process a run's folder, which may be killed at any moment."""

import errno
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from saved_steps import names, no_warning

from ddpm_keras.errors import InputError
from ddpm_keras.runs.checkpoint import lock, restore
from ddpm_keras.runs.folder import remove_leftovers

HOLDS = """
import sys
from ddpm_keras.runs.checkpoint import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def start(code, *args):
    """Start a process, and wait for its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def kill(process):
    process.kill()
    rest, _ = process.communicate()
    assert process.returncode == -9
    return rest.split()


def refused(folder):
    with pytest.raises(InputError) as error, lock(folder):
        pytest.fail("two processes hold one folder")
    return str(error.value)


def assert_names(message, folder, pid):
    who = f"{folder}: another run works here: {os.uname().nodename}, pid {pid}, since "
    assert message.startswith(who)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", message[len(who) :])


@pytest.mark.parametrize(
    "kills", [3, pytest.param(20, marks=pytest.mark.slow)], ids=["3", "20"]
)
def test_second_process_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path, kills):
    """Each process that takes over is the one that is killed next."""
    for _ in range(kills):
        process, line = start(HOLDS, tmp_path)
        assert line == "held"
        assert_names(refused(tmp_path), tmp_path, process.pid)
        kill(process)
    with lock(tmp_path):
        assert_names(refused(tmp_path), tmp_path, os.getpid())


def test_lock_is_given_back_at_the_end_of_the_block(tmp_path):
    for _ in range(2):
        with lock(tmp_path):
            assert (tmp_path / ".lock-owner").exists()
        assert not (tmp_path / ".lock-owner").exists()
    with pytest.raises(ZeroDivisionError), lock(tmp_path):
        raise ZeroDivisionError
    with lock(tmp_path):
        (tmp_path / ".lock-owner").unlink()
        message = refused(tmp_path)
    assert message == f"{tmp_path}: another run works here: just started"


def test_owner_is_not_written_through_a_link(tmp_path):
    target = tmp_path / "target"
    target.write_text("mine")
    (tmp_path / ".lock-owner").symlink_to(target)
    with lock(tmp_path):
        assert "pid" in (tmp_path / ".lock-owner").read_text()
    assert target.read_text() == "mine"


def test_folder_that_cannot_be_locked_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert f"{tmp_path}/file: cannot be written to" in refused(tmp_path / "file")

    def write_text(path, text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", write_text)
        assert refused(tmp_path) == (
            f"{tmp_path}: cannot be written to ([Errno 28] No space left on device)"
        )
    with lock(tmp_path):
        pass


# kill -9, at any moment.

SAVES = """
import sys
import numpy as np
from ddpm_keras.runs.checkpoint import lock, restore, save
from ddpm_keras.runs.folder import remove_leftovers
folder, keep = sys.argv[1], int(sys.argv[2])
with lock(folder):
    remove_leftovers(folder)
    found = restore(folder)
    step = found[0] if found else 0
    while True:
        step += 1
        arrays = {"w": np.full(500_000, step, "float32"), "n": np.array(step)}
        save(folder, step, arrays, {"step": step}, keep)
        print(step, flush=True)
"""


@pytest.mark.parametrize(
    "kills", [10, pytest.param(50, marks=pytest.mark.slow)], ids=["10", "50"]
)
def test_killed_at_random_moments_loses_nothing(tmp_path, kills):
    """The restored state is of the last save that was printed, or of the one after."""
    rng = np.random.default_rng(kills)
    for number in range(kills):
        keep = 1 + number % 2 * 2
        process, first = start(SAVES, tmp_path, keep)
        time.sleep(rng.uniform(0, 0.1))
        last = int([first, *kill(process)][-1])
        with lock(tmp_path):
            remove_leftovers(tmp_path)
            step, arrays, facts = restore(tmp_path, no_warning)
        assert last <= step <= last + 1
        assert facts == {"step": step} and arrays["n"] == step
        assert (arrays["w"] == step).all() and arrays["w"].shape == (500_000,)
        assert all(re.fullmatch(r"step-\d{8}", name) for name in names(tmp_path))
