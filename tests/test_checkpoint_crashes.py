"""Saves cut off by a crash, a power loss or a full disk."""

import errno
import itertools
import os
import re
import resource
import shutil

import numpy as np
import pytest
from failing_disk import Crash, Disk, crash_at
from saved_steps import (
    FILES,
    arrays_of,
    content,
    facts_of,
    flip,
    names,
    names_of_files,
    not_saved,
    path_of,
    refusal,
    restored,
    save_steps,
)

from ddpm_keras.errors import RunError
from ddpm_keras.runs.checkpoint import restore, save
from ddpm_keras.runs.folder import remove_leftovers

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


SCENES = {  # the steps that are there, and how many to keep
    "first save": ((), 1),
    "room for more": ((1,), 3),
    "keep 1": ((1,), 1),
    "keep 3": ((1, 2, 3), 3),
    "keep 1 after 3": ((1, 2, 3), 1),
}


@pytest.fixture(params=SCENES, ids=lambda name: name.replace(" ", "-"))
def scene(request, tmp_path):
    """`(start, operations, old, keep)`: a run's folder at any time, before step 8."""
    steps, keep = SCENES[request.param]
    save_steps(tmp_path / "before", *steps)
    numbers = itertools.count()

    def start():
        return shutil.copytree(tmp_path / "before", tmp_path / str(next(numbers)))

    folder = start()
    with Disk() as disk:
        save(folder, 8, arrays_of(8), facts_of(8), keep)
    return start, disk.kinds, max(steps, default=None), keep


def go_on(folder, keep):
    """What the next start does; returns the step it begins from."""
    remove_leftovers(folder)
    step = restored(folder)
    assert not list(folder.glob("checkpoints/.*"))
    save_steps(folder, 9, keep=keep)
    assert restored(folder) == 9
    assert len(names(folder)) <= keep
    return step


def test_the_disk_of_the_tests_sees_every_operation(scene):
    start, kinds, old, keep = scene
    removed = max(0, len(list(start().glob("checkpoints/*"))) - keep + 1)
    assert (kinds.count("mkdir"), kinds.count("create")) == (4, 2)
    assert kinds.count("write") >= 5
    assert kinds.count("fsync") == 5  # two files, their folder, the two above
    assert kinds.count("rename") == 2 + removed
    assert kinds.count("unlink") == 2 * removed
    assert kinds.count("rmdir") == removed + 1  # the folder of the temporary one


def test_crash_at_any_operation_leaves_the_old_or_the_new(scene):
    start, kinds, old, keep = scene
    steps = []
    for number in range(len(kinds)):
        folder = start()
        with pytest.raises(Crash), crash_at(number):
            save(folder, 8, arrays_of(8), facts_of(8), keep)
        steps.append(go_on(folder, keep))
    assert set(steps) == {old, 8}
    assert steps == sorted(steps, key=lambda step: step == 8)  # never back again


@pytest.mark.parametrize(
    "zeros, lose_names",
    [(False, False), (True, False), (False, True)],
    ids=["emptied", "zeros", "names-lost"],
)
def test_power_loss_at_any_operation_leaves_the_old_or_the_new(
    scene, zeros, lose_names
):
    start, kinds, old, keep = scene
    steps = []
    for number in range(len(kinds)):
        folder = start()
        with pytest.raises(Crash), crash_at(number) as disk:
            save(folder, 8, arrays_of(8), facts_of(8), keep)
        disk.lose_power(folder, zeros, lose_names)
        steps.append(go_on(folder, keep))
    assert {old} <= set(steps) <= {old, 8}
    assert steps == sorted(steps, key=lambda step: step == 8)


@pytest.mark.parametrize("lose_names", [False, True], ids=["names-kept", "names-lost"])
def test_power_loss_after_a_save_loses_nothing(scene, lose_names):
    start, _, _, keep = scene
    folder = start()
    with Disk() as disk:
        save(folder, 8, arrays_of(8), facts_of(8), keep)
    disk.lose_power(folder, zeros=False, lose_names=lose_names)
    assert go_on(folder, keep) == 8


@pytest.mark.parametrize("keep", [1, 3])
def test_crash_while_pruning_leaves_the_new(tmp_path, keep):
    """Never without a whole one, and never a half one with a name."""
    save_steps(tmp_path / "before", 1, 2, 3, 4)
    folder = shutil.copytree(tmp_path / "before", tmp_path / "a")
    with Disk() as disk:
        save_steps(folder, 8, keep=keep)
    begun = len(disk.kinds) - disk.kinds[::-1].index("fsync")
    assert disk.kinds[begun:].count("rmdir") == 5 - keep
    for number in range(begun, len(disk.kinds)):
        folder = shutil.copytree(tmp_path / "before", tmp_path / str(number))
        with pytest.raises(Crash), crash_at(number):
            save_steps(folder, 8, keep=keep)
        for name in names(folder):
            if not name.startswith("."):
                assert names_of_files(folder / "checkpoints" / name) == FILES
        assert go_on(folder, keep) == 8


def test_crash_while_removing_leftovers(tmp_path):
    save_steps(tmp_path / "before", 1)
    for step in (2, 3):
        with pytest.raises(Crash), crash_at(12):
            save_steps(tmp_path / "before", step)
    folder = shutil.copytree(tmp_path / "before", tmp_path / "a")
    with Disk() as disk:
        remove_leftovers(folder)
    left = [re.sub(r"\.\w{8}\.tmp", ".tmp", n) for n in names(tmp_path / "before")[:2]]
    assert left == [".step-00000002.tmp", ".step-00000003.tmp"]
    assert disk.kinds.count("unlink") == disk.kinds.count("rmdir") == 4
    for number in range(len(disk.kinds)):
        folder = shutil.copytree(tmp_path / "before", tmp_path / str(number))
        with pytest.raises(Crash), crash_at(number):
            remove_leftovers(folder)
        assert go_on(folder, keep=2) == 1


def test_crash_while_setting_aside(tmp_path):
    save_steps(tmp_path / "before", 1, 2, 3)
    for step in (2, 3):
        flip(path_of(tmp_path / "before", step) / "manifest.json", 100)
    for number in range(2):
        folder = shutil.copytree(tmp_path / "before", tmp_path / str(number))
        warnings = []
        with pytest.raises(Crash), crash_at(number):
            restore(folder, warnings.append)
        assert restored(folder, warnings.append) == 1
        assert len(warnings) == 2
        aside = ["step-00000002.bad", "step-00000003.bad"]
        assert names(folder) == ["step-00000001", *aside]


# A full disk.

TAKES_ROOM = {"mkdir", "create", "write", "fsync", "rename"}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
def test_full_disk_at_any_operation_is_reported_and_survived(scene, lasting):
    start, kinds, old, keep = scene
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for number in (n for n, kind in enumerate(kinds) if kind in TAKES_ROOM):
        if number == 1 or number == 0 and old is not None:
            continue  # To make `checkpoints`, where it is there, takes no room.
        folder = start()

        def fails(n, kind, number=number):
            due = n == number or (lasting and n > number)
            return full if due and kind in TAKES_ROOM else None

        with Disk(fails):
            message = refusal(folder, 8, keep)
        if "not removed" in message:
            old_one = re.match(".*(?=: not removed)", message)[0]
            assert message == f"{old_one}: not removed ({full})"
            assert restored(folder) == 8
        else:
            file_of_arrays = "I/O error: " if f"({full})" not in message else ""
            assert message == not_saved(folder, 8, f"{file_of_arrays}{full}")
            assert restored(folder) == (8 if path_of(folder, 8).exists() else old)
            assert not list(folder.glob("checkpoints/.*"))
        save_steps(folder, 9, keep=keep)
        assert restored(folder) == 9
        assert len(names(folder)) <= keep


def test_a_file_that_may_not_grow_is_reported_and_survived(tmp_path):
    """The real writer, cut off by the system at 20 lengths."""
    save_steps(tmp_path, 1)
    before = content(tmp_path)
    size = path_of(tmp_path, 1).joinpath("arrays.safetensors").stat().st_size
    reason = "Error while serializing: I/O error: File too large (os error 27)"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for length in np.linspace(0, size - 1, 20, dtype=int):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(length), limits[1]))
        try:
            message = refusal(tmp_path, 2, keep=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert message == not_saved(tmp_path, 2, reason)
        assert content(tmp_path) == before
    save_steps(tmp_path, 2, keep=1)
    assert restored(tmp_path) == 2


def test_a_run_folder_that_is_gone_is_reported(tmp_path):
    with pytest.raises(RunError) as error:
        save(tmp_path / "run", 2, arrays_of(2), {}, keep=1)
    assert f"{path_of(tmp_path / 'run', 2)}: not saved" in str(error.value)
    assert "360 bytes needed, 0 free" in str(error.value)
    assert not (tmp_path / "run").exists()
