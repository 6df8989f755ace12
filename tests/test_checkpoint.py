"""Checkpoints come back as they were saved, or are reported as damaged."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from saved_steps import (
    FILES,
    arrays_of,
    assert_same_bits,
    content,
    flip,
    names,
    names_of_files,
    not_saved,
    path_of,
    refusal,
    restored,
    save_steps,
)

from ddpm_keras.errors import InputError, RunError
from ddpm_keras.runs import checkpoint
from ddpm_keras.runs.checkpoint import restore, save
from ddpm_keras.runs.folder import remove_leftovers

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


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


def test_name_and_path_are_reported(tmp_path):
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
    code = "import sys, ddpm_keras.runs.checkpoint; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    ).stdout.split()
    assert "ddpm_keras.runs.checkpoint" in loaded
    assert not {"keras", "tensorflow", "jax", "torch"} & set(loaded)


def test_folders_of_others_are_never_pruned(tmp_path):
    save_steps(tmp_path, 1, 2)
    folder = tmp_path / "checkpoints"
    others = [folder / "step-1" / "mine", folder / "step-00000000" / "notes.txt"]
    others.append(path_of(tmp_path, 1) / "mine.txt")  # put into one of ours
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    save_steps(tmp_path, 3, 4, keep=1)
    assert all(path.is_file() for path in others)
    assert not path_of(tmp_path, 2).exists() and not path_of(tmp_path, 3).exists()
    assert restored(tmp_path) == 4


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

    monkeypatch.setattr(checkpoint, "force_to_disk", force_and_damage)
    message = refusal(tmp_path, 2, keep=1)
    assert message == not_saved(tmp_path, 2, f"{file} is damaged")
    assert content(tmp_path) == before


# Damage.


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
        assert restored(tmp_path) == 1  # only one warning
        aside.rename(path)
        (path / name).write_bytes(whole[path / name])

    yield check, {name: whole[path / name] for name in FILES}
    assert content(tmp_path) == whole
    assert restored(tmp_path) == 2


def test_checkpoint_cut_short_is_named_and_set_aside(damage):
    """At 80 lengths of the arrays and 40 of the manifest."""
    check, files = damage
    cuts = 0
    for name, number in (("arrays.safetensors", 80), ("manifest.json", 40)):
        for length in np.linspace(0, len(files[name]) - 1, number, dtype=int):
            check(name, files[name][:length])
            cuts += 1
    assert cuts == 120


def test_single_flipped_bit_is_found(damage):
    """200 of 200, half of them in the manifest."""
    check, files = damage
    rng = np.random.default_rng(0)
    for name, data in files.items():
        for bit in rng.choice(8 * len(data), 100, replace=False):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            check(name, flipped)


def test_zeroed_hole_is_found(tmp_path):
    """60 of 60 holes of 4 KiB, 50 of them in the arrays, at any place."""
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
    (warning,) = warnings
    assert f"{path}: arrays.safetensors is not what manifest.json describes" in warning


@pytest.mark.parametrize("name", ["arrays.safetensors", "manifest.json", "."])
def test_missing_file_is_named_and_set_aside(tmp_path, name):
    save_steps(tmp_path, 1, 2)
    path = path_of(tmp_path, 2)
    for file in FILES:
        if name in (file, "."):
            (path / file).unlink()
    missing = path / ("manifest.json" if name == "." else name)
    with pytest.warns(UserWarning) as warnings:
        assert restore(tmp_path)[0] == 1
    (warning,) = warnings
    assert f"No such file or directory: '{missing}'" in str(warning.message)
    assert names(tmp_path) == ["step-00000001", "step-00000002.bad"]


def make_socket(path):
    place = os.getcwd()
    os.chdir(path.parent)  # its address may have 108 letters
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(place)


@pytest.mark.parametrize(
    "make", [os.mkfifo, make_socket, lambda path: path.symlink_to("/dev/zero")]
)
@pytest.mark.parametrize("name", FILES)
def test_pipe_in_the_place_of_a_file_is_set_aside_unread(tmp_path, name, make):
    """To read it would wait, or go on, for ever."""
    save_steps(tmp_path, 1, 2)
    file = path_of(tmp_path, 2) / name
    file.unlink()
    make(file)
    warnings = []
    assert restored(tmp_path, warnings.append) == 1
    assert warnings == [
        f"{path_of(tmp_path, 2)}: {name} is not a file; set aside as "
        "step-00000002.bad, step-00000001 is used"
    ]


def test_several_damaged_ones_are_set_aside_each_with_its_warning(tmp_path):
    save_steps(tmp_path, 1, 2, 3)
    flip(path_of(tmp_path, 3) / "manifest.json", 9)
    flip(path_of(tmp_path, 2) / "arrays.safetensors", 9)
    warnings = []
    assert restored(tmp_path, warnings.append) == 1
    third, second = warnings
    assert f"{path_of(tmp_path, 3)}: manifest.json is damaged" in third
    assert f"{path_of(tmp_path, 2)}: arrays.safetensors is damaged" in second
    assert all("step-00000001 is used" in warning for warning in warnings)


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
    """And the next start fails again rather than beginning anew."""
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


def test_newer_format_is_reported_and_left_alone(tmp_path):
    """An older checkpoint is not used in its place, which would lose work."""
    save_steps(tmp_path, 1, 2, 3)
    reseal(path_of(tmp_path, 2), format=2)
    flip(path_of(tmp_path, 3) / "manifest.json", 9)
    before = content(tmp_path)
    with pytest.raises(InputError) as error:
        restored(tmp_path)
    assert f"{path_of(tmp_path, 2)}: written by a newer" in str(error.value)
    assert content(tmp_path) == before
