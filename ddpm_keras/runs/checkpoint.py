"""Checkpoints that neither a crash nor a full disk nor a worn one takes away.

A checkpoint is a folder such as `checkpoints/step-00012000`: a safetensors file, and
a manifest that describes it. They are written under a temporary name, forced to the
disk and checked before they get their own; damage done later shows in the hashes.
"""

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ddpm_keras.errors import InputError, RunError

FORMAT = 1  # A newer one must keep `_seal`, so that this one can tell it.


def save(folder, step, arrays, facts, keep):
    """Save a checkpoint, under `lock`, and remove the oldest ones; return its path.

    A step that is saved already is left as it is.

    Args:
        folder: The run's folder.
        step: The number of optimizer steps done.
        arrays: The state, a dict of NumPy arrays by name; all numbers finite.
        facts: What else belongs to it, a dict of plain JSON.
        keep: How many checkpoints to leave, this one included; 1 or more.

    Raises:
        RunError: When an array is not finite, or the disk is full or fails. Nothing
            half written is left, and the other checkpoints are as they were.
    """
    path = Path(folder, "checkpoints", f"step-{step:08d}")
    if path.exists():
        return path
    # In C order: safetensors writes a transposed array's memory as if it were not.
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise RunError(f"{path}: not saved, {name} is not finite")
    try:
        _write(path, step, arrays, facts)
    except (OSError, SafetensorError, RunError) as error:
        needed = sum(array.nbytes for array in arrays.values())
        free = shutil.disk_usage(folder).free if Path(folder).exists() else 0
        raise RunError(
            f"{path}: not saved ({error}); {needed:,} bytes needed, {free:,} free"
        ) from error
    others = [other for other in _oldest_first(folder) if other != path]
    for old in others[::-1][keep - 1 :]:
        try:  # The name goes first, so that no half of a checkpoint ever has it.
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.tmp")))
        except OSError as error:
            raise RunError(f"{old}: not removed ({error})") from error
    return path


def restore(folder, warn=warnings.warn):
    """Read the newest whole checkpoint, under `lock`.

    Damaged ones that are newer get names ending in `.bad`, and a warning each.

    Args:
        folder: The run's folder.
        warn: A function that takes the text of a warning.

    Returns:
        `(step, arrays, facts)` as they were saved, or None when nothing was.

    Raises:
        InputError: When no checkpoint is whole, or a newer version of this package
            wrote one. All of them stay as they are.
    """
    damaged = {}
    for path in reversed(_oldest_first(folder)):
        try:
            manifest = _check(path)
            arrays = load_file(path / "arrays.safetensors")
            if _describe(arrays) != manifest["arrays"]:
                raise RunError("arrays.safetensors is not what manifest.json describes")
        except (OSError, SafetensorError, RunError) as error:
            damaged[path] = error
            continue
        # Only now: with all of them set aside, the next start would be a fresh one.
        for bad, error in damaged.items():
            number = len(list(bad.parent.glob(f"{bad.name}.bad*"))) or ""
            aside = bad.rename(f"{bad}.bad{number}")
            warn(f"{bad}: {error}; set aside as {aside.name}, {path.name} is used")
        return manifest["step"], arrays, manifest["facts"]
    if damaged:
        reasons = "; ".join(f"{bad.name}: {error}" for bad, error in damaged.items())
        raise InputError(
            f"{path.parent}: none of {len(damaged)} is whole; bring one back from a "
            f"copy, or start in a new folder ({reasons})"
        )
    return None


@contextlib.contextmanager
def lock(folder):
    """Hold a run's folder, an existing one, until the block or the process ends.

    Raises `InputError`, which names the process that holds it, or what is not writable.
    """
    # Beside the lock, not in it: some versions of filelock empty the lock's file.
    owner = Path(folder, ".lock-owner")
    name = f"{os.uname().nodename}, pid {os.getpid()}, since {datetime.now():%F %T}"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(Path(folder, ".lock"), timeout=0))
            held.callback(owner.unlink, missing_ok=True)
            owner.write_text(name)
        except Timeout as error:
            name = owner.read_text() if owner.exists() else "just started"
            raise InputError(f"{folder}: another run works here: {name}") from error
        except OSError as error:
            raise InputError(f"{folder}: cannot be written to ({error})") from error
        yield


def _write(path, step, arrays, facts):
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        _force_to_disk(path.parent.parent)
        temporary.mkdir()
        save_file(arrays, temporary / "arrays.safetensors")
        manifest = {"format": FORMAT, "step": int(step), "facts": facts}
        manifest["arrays"] = _describe(arrays)
        manifest["sha256"] = _sha256(temporary / "arrays.safetensors")
        (temporary / "manifest.json").write_bytes(_seal(manifest))
        for written in (*temporary.iterdir(), temporary):
            _force_to_disk(written)
        _check(temporary)
        temporary.rename(path)
        _force_to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(path):
    """The manifest of a checkpoint whose two files are as they were written."""
    text = (path / "manifest.json").read_bytes()
    try:
        manifest = json.loads(text)["manifest"]
        if text != _seal(manifest):
            raise ValueError
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RunError("manifest.json is damaged") from error
    if manifest["format"] > FORMAT:
        raise InputError(f"{path}: written by a newer version; update ddpm_keras")
    if manifest["sha256"] != _sha256(path / "arrays.safetensors"):
        raise RunError("arrays.safetensors is damaged")
    return manifest


def _seal(manifest):
    """A manifest as bytes that hold their own hash: a single changed bit shows."""
    sha256 = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps({"manifest": manifest, "sha256": sha256}, indent=1).encode()


def _oldest_first(folder):
    found = Path(folder, "checkpoints").glob("step-*")
    numbered = [path for path in found if path.name[5:].isdecimal()]
    return sorted(numbered, key=lambda path: int(path.name[5:]))


def _describe(arrays):
    return {name: f"{array.dtype.name} {array.shape}" for name, array in arrays.items()}


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _force_to_disk(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
