"""Checkpoints under every fault we can make: F2, F3, F7 to F11, F13 and F20."""

import errno
import io
import itertools
import os
import re
import resource
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from safetensors import SafetensorError

from ddpm_keras import checkpoint
from ddpm_keras.checkpoint import lock, remove_leftovers, restore, save
from ddpm_keras.errors import InputError, RunError

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(checkpoint.__file__).parents[1])}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """In this process; those that get killed do wait."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def arrays_of(step):
    rng = np.random.default_rng(step)
    weights = rng.normal(size=(7, 11)).astype("float32")
    return {"net/kernel": weights, "net/bias": weights[0] * 2, "step": np.array(step)}


def facts_of(step):
    return {"config": {"width": 8}, "losses": [0.5, step]}


def save_steps(folder, *steps, keep=9):
    folder.mkdir(exist_ok=True)
    for step in steps:
        save(folder, step, arrays_of(step), facts_of(step), keep)


def path_of(folder, step):
    return folder / "checkpoints" / f"step-{step:08d}"


def no_warning(text):
    pytest.fail(f"warned: {text}")


def restored(folder, warn=no_warning):
    """The step that is restored, after a look at everything that came with it."""
    found = restore(folder, warn)
    if found is None:
        return None
    step, arrays, facts = found
    assert facts == facts_of(step)
    assert_same_bits(arrays, arrays_of(step))
    return step


def assert_same_bits(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes(), name


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def content(folder):
    return {p: p.is_file() and p.read_bytes() for p in sorted(folder.rglob("*"))}


# What is saved comes back.


@pytest.mark.parametrize("facts", [{}, {"ü": [1, 0.1, None, {"a": "\ud800\n"}]}])
def test_every_dtype_comes_back_bit_for_bit(tmp_path, facts):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    names = "bool int8 uint8 int16 uint16 int32 uint32 int64 uint64 float16 float32"
    dtypes = [*names.split(), "float64", "complex64", ml_dtypes.bfloat16]
    values = np.array([[0, 1, 3], [-0.0, 1e-7, 100]])
    arrays = {f"a/{np.dtype(dtype).name} ü": values.astype(dtype) for dtype in dtypes}
    arrays |= {"scalar": np.array(3, "int32"), "empty": np.zeros((0, 3), "float32")}
    save(tmp_path, 12, arrays, facts, keep=1)
    step, found, found_facts = restore(tmp_path)
    assert (step, found_facts) == (12, facts)
    assert_same_bits(found, arrays)
    assert names_of_files(tmp_path) == FILES


FILES = ["arrays.safetensors", "manifest.json"]


def names_of_files(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_arrays_of_any_layout_keep_their_values(tmp_path):
    base = np.arange(24.0, dtype="float32").reshape(4, 6)
    arrays = {
        "transposed": base.T,
        "strided": base[::2, ::-3],
        "fortran": np.asfortranarray(base),
        "big-endian": base.astype(">f4"),
        "broadcast": np.broadcast_to(base[0], (5, 6)),
        "number": np.float32(7),
    }
    save(tmp_path, np.int64(3), arrays, {}, keep=1)
    step, found, _ = restore(tmp_path)
    assert step == 3
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, name)
        assert found[name].dtype == "float32"


def test_nothing_saved_is_none(tmp_path):
    assert restore(tmp_path / "missing") is None
    assert restore(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    assert restore(tmp_path) is None


def test_newest_is_restored_by_number_not_by_name(tmp_path):
    save_steps(tmp_path, 99_999_999, 100_000_000, 5)
    assert restored(tmp_path) == 100_000_000


def test_name_and_path_are_told(tmp_path):
    path = save(tmp_path, 12_000, arrays_of(1), {}, keep=1)
    assert path == tmp_path / "checkpoints" / "step-00012000"


def test_saved_step_is_left_as_it_is(tmp_path):
    save_steps(tmp_path, 1, 2)
    before = content(tmp_path)
    assert save(tmp_path, 2, arrays_of(7), {}, keep=1) == path_of(tmp_path, 2)
    assert content(tmp_path) == before


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path, keep):
    save_steps(tmp_path, *range(1, 6), keep=keep)
    assert names(tmp_path) == [f"step-{n:08d}" for n in range(6 - keep, 6)]
    save_steps(tmp_path, 3, keep=keep)  # The only one known to be whole: it stays.
    assert path_of(tmp_path, 3).exists()
    assert len(names(tmp_path)) == (keep if keep < 3 else 3)


def test_other_names_are_left_alone(tmp_path):
    save_steps(tmp_path, 1)
    others = ["best", "step-00000000.bad", "step-best", "step-00000000.bad2"]
    for name in others:
        (tmp_path / "checkpoints" / name).mkdir()
    save_steps(tmp_path, 2, keep=1)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([*others, "step-00000002"])
    assert restored(tmp_path) == 2


def test_neither_keras_nor_a_backend_is_imported():
    code = "import sys, ddpm_keras.checkpoint; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True
    ).stdout.split()
    assert "ddpm_keras.checkpoint" in loaded
    assert not {"keras", "tensorflow", "jax", "torch"} & set(loaded)


# What is refused.


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_saved(tmp_path, dtype, number):
    save_steps(tmp_path, 1)
    before = content(tmp_path)
    arrays = arrays_of(2) | {"net/ema": np.array([[1, 2], [3, number]], dtype)}
    with pytest.raises(RunError) as error:
        save(tmp_path, 2, arrays, {}, keep=1)
    path = path_of(tmp_path, 2)
    assert str(error.value) == f"{path}: not saved, net/ema is not finite"
    assert content(tmp_path) == before


def test_what_safetensors_does_not_take_is_not_saved(tmp_path):
    save_steps(tmp_path, 1)
    before = content(tmp_path)
    with pytest.raises(RunError, match="not saved .*complex128"):
        save(tmp_path, 2, {"a": np.zeros(3, complex)}, {}, keep=1)
    with pytest.raises(TypeError, match="not JSON serializable"):
        save(tmp_path, 2, arrays_of(2), {"a": object()}, keep=1)
    assert content(tmp_path) == before


@pytest.mark.parametrize("file", ["arrays.safetensors", "manifest.json"])
def test_a_disk_that_changes_a_bit_is_found_before_pruning(tmp_path, monkeypatch, file):
    save_steps(tmp_path, 1)
    before = content(tmp_path)

    def force_and_damage(path):
        if path.name == file:
            flip(path, path.stat().st_size * 4)

    monkeypatch.setattr(checkpoint, "_force_to_disk", force_and_damage)
    told = refusal(tmp_path, 2, keep=1)
    assert told == not_saved(tmp_path, 2, f"{file} is damaged")
    assert content(tmp_path) == before


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


FREE = 12_345


def refusal(folder, step, keep):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RunError) as error:
        usage = shutil.disk_usage(folder)._replace(free=FREE)
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        save(folder, step, arrays_of(step), facts_of(step), keep)
    return str(error.value)


def not_saved(folder, step, reason):
    size = 4 * 7 * 11 + 4 * 11 + 8
    return (
        f"{path_of(folder, step)}: not saved ({reason}); {size} bytes needed, "
        "12,345 free"
    )


# A disk that fails, or loses what was not forced to it, at any operation.


class Crash(BaseException):
    """The process is gone: no `except` and no `finally` does anything any more."""


class Disk:
    """While it is entered, counts what the module does to the disk, and may fail.

    Each piece of 256 bytes is a write of its own. What `os.fsync` has not forced to
    the disk, contents and names, is known, and `lose_power` loses it.

    Args:
        fails: Takes the number and the kind of an operation; returns the exception
            that is raised in its place, or None.
    """

    def __init__(self, fails=lambda number, kind: None):
        self.fails = fails
        self.kinds = []
        self.unforced_files = set()  # inodes
        self.unforced_names = []  # (inode of the folder, inode, name before or None)

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        self.real = {
            n: getattr(os, n) for n in "open mkdir unlink rmdir rename".split()
        }
        self.real_open = io.open
        self.patch.setattr(io, "open", self.open_file)
        self.patch.setattr(checkpoint, "save_file", self.save_file)
        self.patch.setattr(os, "open", self.open)
        self.patch.setattr(os, "mkdir", self.mkdir)
        self.patch.setattr(os, "rename", self.rename)
        self.patch.setattr(os, "fsync", self.fsync)
        self.patch.setattr(os, "unlink", lambda *a, **k: self.remove("unlink", *a, **k))
        self.patch.setattr(os, "rmdir", lambda *a, **k: self.remove("rmdir", *a, **k))
        return self

    def __exit__(self, *error):
        self.patch.undo()

    def operate(self, kind):
        error = self.fails(len(self.kinds), kind)
        self.kinds.append(kind)
        if error is not None:
            raise error

    def open(self, *args, **kwargs):
        self.operate("open")
        return self.real["open"](*args, **kwargs)

    def mkdir(self, path, *args):
        self.operate("mkdir")
        self.real["mkdir"](path, *args)
        self.name(path)

    def rename(self, path, target):
        self.operate("rename")
        self.real["rename"](path, target)
        self.name(target, Path(path).name)

    def remove(self, kind, path, *, dir_fd=None):
        self.operate(kind)
        inode = os.stat(path, dir_fd=dir_fd).st_ino
        self.real[kind](path, dir_fd=dir_fd)
        self.unforced_files.discard(inode)  # The next file may get its inode.
        self.unforced_names = [n for n in self.unforced_names if n[1] != inode]

    def fsync(self, descriptor):
        self.operate("fsync")
        status = os.fstat(descriptor)
        self.unforced_files.discard(status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            kept = [n for n in self.unforced_names if n[0] != status.st_ino]
            self.unforced_names = kept

    def open_file(self, path, mode="r", *args, **kwargs):
        if mode != "wb":
            return self.real_open(path, mode, *args, **kwargs)
        self.operate("create")
        file = self.real_open(path, "wb", buffering=0)
        self.unforced_files.add(os.stat(path).st_ino)
        self.name(path)
        return Pieces(file, self)

    def save_file(self, arrays, path):
        """As safetensors does it: a temporary file beside the one, then a rename."""
        temporary = path.with_name(".tmpAbCdEf")
        try:
            with temporary.open("wb") as file:
                file.write(safetensors.numpy.save(arrays))
            os.rename(temporary, path)
        except OSError as error:
            raise SafetensorError(f"I/O error: {error}") from error

    def name(self, path, before=None):
        folder = os.stat(Path(path).parent).st_ino
        self.unforced_names.append((folder, os.stat(path).st_ino, before))

    def lose_power(self, root, zeros, lose_names):
        """Empty the files not forced to the disk; with `zeros`, to their old length."""
        for inode in self.unforced_files:
            file = find(root, inode)
            size = file.stat().st_size
            os.truncate(file, 0)
            os.truncate(file, size * zeros)
        for _, inode, before in reversed(self.unforced_names) if lose_names else ():
            path = find(root, inode)
            if before is not None:
                path.rename(path.with_name(before))
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


class Pieces:
    """A file that is written in pieces."""

    def __init__(self, file, disk):
        self.file, self.disk = file, disk

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, data):
        for start in range(0, len(data), 256):
            self.disk.operate("write")
            self.file.write(bytes(data[start : start + 256]))


def find(root, inode):
    return next(path for path in root.rglob("*") if path.stat().st_ino == inode)


def crash_at(number):
    return Disk(lambda n, kind: Crash() if n >= number else None)


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
    assert (kinds.count("mkdir"), kinds.count("create")) == (2, 2)
    assert kinds.count("write") >= 5
    assert kinds.count("fsync") == 5  # run, two files, their folder, the folder above
    assert kinds.count("rename") == 2 + removed
    assert kinds.count("unlink") == 2 * removed
    assert kinds.count("rmdir") == removed


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
    """F20: never without a whole one, and never a half one with a name."""
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
    assert names(tmp_path / "before")[:2] == [
        ".step-00000002.tmp",
        ".step-00000003.tmp",
    ]
    assert disk.kinds.count("unlink") == disk.kinds.count("rmdir") * 2 == 4
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


# F11: a full disk.

TAKES_ROOM = {"mkdir", "create", "write", "fsync", "rename"}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from-then-on"])
def test_full_disk_at_any_operation_is_told_and_survived(scene, lasting):
    start, kinds, old, keep = scene
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for number in (n for n, kind in enumerate(kinds) if kind in TAKES_ROOM):
        if number == 0 and old is not None:
            continue  # To make the folder that is there takes no room.
        folder = start()

        def fails(n, kind, number=number):
            due = n == number or (lasting and n > number)
            return full if due and kind in TAKES_ROOM else None

        with Disk(fails):
            told = refusal(folder, 8, keep)
        if "not removed" in told:
            old_one = re.match(".*(?=: not removed)", told)[0]
            assert told == f"{old_one}: not removed ({full})"
            assert restored(folder) == 8
        else:
            file_of_arrays = "I/O error: " if f"({full})" not in told else ""
            assert told == not_saved(folder, 8, f"{file_of_arrays}{full}")
            assert restored(folder) == (8 if path_of(folder, 8).exists() else old)
            assert not list(folder.glob("checkpoints/.*"))
        save_steps(folder, 9, keep=keep)
        assert restored(folder) == 9
        assert len(names(folder)) <= keep


def test_a_file_that_may_not_grow_is_told_and_survived(tmp_path):
    """The real writer, cut off by the system at 20 lengths."""
    save_steps(tmp_path, 1)
    before = content(tmp_path)
    size = path_of(tmp_path, 1).joinpath("arrays.safetensors").stat().st_size
    reason = "Error while serializing: I/O error: File too large (os error 27)"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for length in np.linspace(0, size - 1, 20, dtype=int):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(length), limits[1]))
        try:
            told = refusal(tmp_path, 2, keep=1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert told == not_saved(tmp_path, 2, reason)
        assert content(tmp_path) == before
    save_steps(tmp_path, 2, keep=1)
    assert restored(tmp_path) == 2


def test_a_run_folder_that_is_gone_is_told(tmp_path):
    with pytest.raises(RunError) as error:
        save(tmp_path / "run", 2, arrays_of(2), {}, keep=1)
    assert str(error.value) == (
        f"{path_of(tmp_path / 'run', 2)}: not saved ([Errno 2] No such file or "
        f"directory: '{tmp_path}/run/checkpoints'); 360 bytes needed, 0 free"
    )
    assert not (tmp_path / "run").exists()


# Damage: F7 to F10.


@pytest.fixture
def damage(tmp_path):
    """A function that changes a file of step 2, of 1 and 2, and sees that it shows."""
    save_steps(tmp_path, 1, 2)
    path = path_of(tmp_path, 2)
    aside = path.with_name("step-00000002.bad")
    whole = content(tmp_path)

    def check(name, data):
        assert data != whole[path / name]
        (path / name).write_bytes(data)
        warnings = []
        assert restored(tmp_path, warnings.append) == 1
        assert warnings == [
            f"{path}: {name} is damaged; set aside as step-00000002.bad, "
            "step-00000001 is used"
        ]
        assert (aside / name).read_bytes() == data
        assert restored(tmp_path) == 1  # It is told once.
        aside.rename(path)
        (path / name).write_bytes(whole[path / name])

    yield check, {name: whole[path / name] for name in FILES}
    assert content(tmp_path) == whole
    assert restored(tmp_path) == 2


def test_checkpoint_cut_short_is_named_and_set_aside(damage):
    """F7: at 80 lengths of the arrays and 40 of the manifest."""
    check, files = damage
    cuts = 0
    for name, number in (("arrays.safetensors", 80), ("manifest.json", 40)):
        for length in np.linspace(0, len(files[name]) - 1, number, dtype=int):
            check(name, files[name][:length])
            cuts += 1
    assert cuts == 120


def test_single_flipped_bit_is_found(damage):
    """F8: 200 of 200, half of them in the manifest."""
    check, files = damage
    rng = np.random.default_rng(0)
    for name, data in files.items():
        for bit in rng.choice(8 * len(data), 100, replace=False):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            check(name, flipped)


def test_zeroed_hole_is_found(tmp_path):
    """F8: 60 of 60 holes of 4 KiB, 50 of them in the arrays, at any place."""
    large = {"w": np.random.default_rng(0).normal(size=50_000)}
    save_steps(tmp_path, 1)
    save(tmp_path, 2, large, {f"fact {n}": n for n in range(1000)}, keep=2)
    rng = np.random.default_rng(1)
    path = path_of(tmp_path, 2)
    for name, number in (("arrays.safetensors", 50), ("manifest.json", 10)):
        whole = (path / name).read_bytes()
        for start in rng.integers(0, len(whole) - 4096, number):
            (path / name).write_bytes(
                whole[:start] + bytes(4096) + whole[start + 4096 :]
            )
            warnings = []
            assert restored(tmp_path, warnings.append) == 1
            assert len(warnings) == 1 and f"{path}: {name} is damaged" in warnings[0]
            path.with_name("step-00000002.bad").rename(path)
        (path / name).write_bytes(whole)
    np.testing.assert_array_equal(restore(tmp_path)[1]["w"], large["w"])


def test_every_byte_of_a_manifest_counts(tmp_path):
    save_steps(tmp_path, 1)
    path = path_of(tmp_path, 1)
    whole = (path / "manifest.json").read_bytes()
    for number in range(len(whole)):
        flipped = bytearray(whole)
        flipped[number] ^= 1 << number % 8
        (path / "manifest.json").write_bytes(flipped)
        with pytest.raises(RunError, match="^manifest.json is damaged$"):
            checkpoint._check(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "7", "[" * 100_000, '{"manifest": 1}']
)
def test_manifest_that_is_something_else_is_damaged(damage, text):
    check, _ = damage
    check("manifest.json", text.encode())


def reseal(path, **changes):
    file = path / "manifest.json"
    manifest = checkpoint.json.loads(file.read_bytes())["manifest"]
    file.write_bytes(checkpoint._seal(manifest | changes))


@pytest.mark.parametrize(
    "arrays",
    [{}, {"step": "float64 ()"}, {"step": "int64 (1,)"}, {"other": "int64 ()"}],
)
def test_arrays_of_other_names_shapes_or_dtypes_are_not_given_out(tmp_path, arrays):
    for step in (1, 2):
        save(tmp_path, step, {"step": np.array(step)}, {}, keep=2)
    path = path_of(tmp_path, 2)
    reseal(path, arrays=arrays)
    warnings = []
    assert restore(tmp_path, warnings.append)[0] == 1
    assert warnings == [
        f"{path}: arrays.safetensors is not what manifest.json describes; set aside "
        "as step-00000002.bad, step-00000001 is used"
    ]


@pytest.mark.parametrize("name", ["arrays.safetensors", "manifest.json", "."])
def test_missing_file_is_named_and_set_aside(tmp_path, name):
    """F10."""
    save_steps(tmp_path, 1, 2)
    path = path_of(tmp_path, 2)
    for file in FILES:
        if name in (file, "."):
            (path / file).unlink()
    missing = path / ("manifest.json" if name == "." else name)
    with pytest.warns(UserWarning) as warnings:
        assert restore(tmp_path)[0] == 1
    assert [str(warning.message) for warning in warnings] == [
        f"{path}: [Errno 2] No such file or directory: '{missing}'; set aside as "
        "step-00000002.bad, step-00000001 is used"
    ]


def test_several_damaged_ones_are_set_aside_each_with_its_warning(tmp_path):
    save_steps(tmp_path, 1, 2, 3)
    flip(path_of(tmp_path, 3) / "manifest.json", 9)
    flip(path_of(tmp_path, 2) / "arrays.safetensors", 9)
    warnings = []
    assert restored(tmp_path, warnings.append) == 1
    folder = tmp_path / "checkpoints"
    assert warnings == [
        f"{folder}/step-00000003: manifest.json is damaged; set aside as "
        "step-00000003.bad, step-00000001 is used",
        f"{folder}/step-00000002: arrays.safetensors is damaged; set aside as "
        "step-00000002.bad, step-00000001 is used",
    ]


def test_one_step_may_be_damaged_again_and_again(tmp_path):
    save_steps(tmp_path, 1)
    warnings = []
    for _ in range(3):
        save_steps(tmp_path, 2)
        flip(path_of(tmp_path, 2) / "manifest.json", 9)
        assert restored(tmp_path, warnings.append) == 1
    aside = [f"step-00000002.bad{number}" for number in ("", 1, 2)]
    assert names(tmp_path) == ["step-00000001", *aside]
    assert len(set(warnings)) == 3


def test_no_whole_checkpoint_is_an_error_and_nothing_is_touched(tmp_path):
    """F9: and the next start tells the same; it does not begin anew."""
    save_steps(tmp_path, 1, 2, 3)
    flip(path_of(tmp_path, 1) / "manifest.json", 9)
    flip(path_of(tmp_path, 2) / "arrays.safetensors", 9)
    (path_of(tmp_path, 3) / "manifest.json").unlink()
    before = content(tmp_path)
    for _ in range(2):
        remove_leftovers(tmp_path)
        with pytest.raises(InputError) as error:
            restored(tmp_path)
        assert str(error.value) == (
            f"{tmp_path}/checkpoints: none of 3 is whole; bring one back from a copy, "
            "or start in a new folder (step-00000003: [Errno 2] No such file or "
            f"directory: '{path_of(tmp_path, 3)}/manifest.json'; step-00000002: "
            "arrays.safetensors is damaged; step-00000001: manifest.json is damaged)"
        )
        assert content(tmp_path) == before


def test_newer_format_is_told_and_left_alone(tmp_path):
    """F10: an older checkpoint is not used in its place, which would lose work."""
    save_steps(tmp_path, 1, 2, 3)
    reseal(path_of(tmp_path, 2), format=2)
    flip(path_of(tmp_path, 3) / "manifest.json", 9)
    before = content(tmp_path)
    with pytest.raises(InputError) as error:
        restored(tmp_path)
    path = path_of(tmp_path, 2)
    assert str(error.value) == f"{path}: written by a newer version; update ddpm_keras"
    assert content(tmp_path) == before


# F13: one process a folder.

HOLDS = """
import sys
from ddpm_keras.checkpoint import lock
with lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def start(code, *args):
    """Start a process, and wait for its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        env=ENVIRONMENT,
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


def assert_names(told, folder, pid):
    who = f"{folder}: another run works here: {os.uname().nodename}, pid {pid}, since "
    assert told.startswith(who)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", told[len(who) :])


def test_second_process_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path):
    """Each process that takes over is the one that is killed next: 20 of 20."""
    for _ in range(20):
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
        told = refused(tmp_path)
    assert told == f"{tmp_path}: another run works here: just started"


def test_folder_that_cannot_be_locked_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "file") == (
        f"{tmp_path}/file: cannot be written to ([Errno 17] File exists: "
        f"'{tmp_path}/file')"
    )

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
from ddpm_keras.checkpoint import lock, remove_leftovers, restore, save
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
    """The restored state is of the last save that was told of, or of the one after."""
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
