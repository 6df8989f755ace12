"""Checkpoints whose content follows from their step, saved and verified."""

import shutil

import numpy as np
import pytest

from ddpm_keras.errors import RunError
from ddpm_keras.runs.checkpoint import restore, save

FILES = ["arrays.safetensors", "manifest.json"]


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
    """Restore a checkpoint, verify its content and return its step."""
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


def names_of_files(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


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
