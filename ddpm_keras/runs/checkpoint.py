"""Checkpoints that survive crashes, full disks and bit rot.

A checkpoint is a folder such as `checkpoints/step-00012000` with a safetensors file and
a manifest that describes it. Both are written under a temporary name, forced to disk
and verified before the folder gets its name. Hashes reveal later damage.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ddpm_keras.errors import InputError, RunError
from ddpm_keras.files import force_to_disk, set_aside, written_whole

MANIFEST, ARRAYS = FILES = ("manifest.json", "arrays.safetensors")
FORMAT = 1  # newer formats must keep `_seal`, for this version to recognise them

Arrays = dict[str, np.ndarray]


def save(
    folder: Path | str, step: int, arrays: Arrays, facts: dict[str, Any], keep: int
) -> Path:
    """Save a checkpoint unless its step is saved already, and remove the oldest ones.

    Call it under `lock`.

    Args:
        folder: The run folder.
        step: Number of optimizer steps completed.
        arrays: The state by name; all numbers must be finite.
        facts: Other content, as plain JSON.
        keep: Number of checkpoints to keep, including this one; 1 or more.

    Returns:
        The path of the checkpoint.

    Raises:
        RunError: When an array is not finite, or the disk is full or fails. No partial
            file is left, and the other checkpoints are unchanged.
    """
    path = Path(folder, "checkpoints", _name(step))
    if path.exists():
        return path
    # safetensors ignores the strides of transposed arrays: make all C-ordered.
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
    others = [p for p in _oldest_first(folder) if p != path and _holds_no_more(p)]
    for old in others[::-1][keep - 1 :]:
        try:  # rename first: no partial checkpoint may keep the name
            shutil.rmtree(old.rename(old.with_name(f".{old.name}.tmp")))
        except OSError as error:
            raise RunError(f"{old}: not removed ({error})") from error
    return path


def restore(
    folder: Path | str, warn: Callable[[str], Any] = warnings.warn
) -> tuple[int, Arrays, dict[str, Any]] | None:
    """Read the newest intact checkpoint. Call it under `lock`.

    Newer, damaged ones are renamed to end in `.bad`, with a warning each.

    Args:
        folder: The run folder.
        warn: Function that takes the text of a warning.

    Returns:
        `(step, arrays, facts)` as saved, or None when there is no checkpoint.

    Raises:
        InputError: When no checkpoint is intact, or a newer version of this package
            wrote one. All are left unchanged.
    """
    damaged = {}
    for path in reversed(_oldest_first(folder)):
        try:
            manifest = _check(path)
            arrays = load_file(path / ARRAYS)
            if _describe(arrays) != manifest["arrays"]:
                raise RunError("arrays.safetensors is not what manifest.json describes")
        except (OSError, SafetensorError, RunError) as error:
            damaged[path] = error
            continue
        # Only now: if all were set aside, the next run would start afresh.
        for bad, error in damaged.items():
            aside = set_aside(bad)
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
def lock(folder: Path | str) -> Iterator[None]:
    """Lock an existing run folder until the block or the process ends.

    Raises:
        InputError: When another process, which it names, holds the folder, or when the
            folder is not writable.
    """
    # A separate file: some versions of filelock empty the lock itself.
    owner = Path(folder, ".lock-owner")
    name = f"{os.uname().nodename}, pid {os.getpid()}, since {datetime.now():%F %T}"
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(FileLock(Path(folder, ".lock"), timeout=0))
            held.callback(owner.unlink, missing_ok=True)
            owner.unlink(missing_ok=True)  # not through a link
            owner.write_text(name)
        except Timeout as error:
            name = owner.read_text() if owner.exists() else "just started"
            raise InputError(f"{folder}: another run works here: {name}") from error
        except OSError as error:
            raise InputError(f"{folder}: cannot be written to ({error})") from error
        yield


def _write(path: Path, step: int, arrays: Arrays, facts: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)  # no parents: a run that is gone stays gone
    with written_whole(path) as temporary:
        temporary.mkdir()
        save_file(arrays, temporary / ARRAYS)
        manifest = {"format": FORMAT, "step": int(step), "facts": facts}
        manifest["arrays"] = _describe(arrays)
        manifest["sha256"] = _sha256(temporary / ARRAYS)
        (temporary / MANIFEST).write_bytes(_seal(manifest))
        for written in (*temporary.iterdir(), temporary):
            force_to_disk(written)
        _check(temporary)
    for folder in (path.parent, path.parent.parent):
        force_to_disk(folder)


def _check(path: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint, or raise a `RunError` when it is damaged."""
    for name in FILES:
        if not stat.S_ISREG((path / name).stat().st_mode):  # reading might never end
            raise RunError(f"{name} is not a file")
    text = (path / MANIFEST).read_bytes()
    try:
        manifest = json.loads(text)["manifest"]
        if text != _seal(manifest):
            raise ValueError
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise RunError("manifest.json is damaged") from error
    if manifest["format"] > FORMAT:
        raise InputError(f"{path}: written by a newer version; update ddpm_keras")
    if manifest["sha256"] != _sha256(path / ARRAYS):
        raise RunError("arrays.safetensors is damaged")
    return manifest


def _seal(manifest: dict[str, Any]) -> bytes:
    """Encode a manifest with its own hash, which reveals any changed bit."""
    sha256 = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps({"manifest": manifest, "sha256": sha256}, indent=1).encode()


def _oldest_first(folder: Path | str) -> list[Path]:
    steps = []
    for path in Path(folder, "checkpoints").glob("step-*"):
        digits = path.name.removeprefix("step-")
        # Other names, such as step-1, are somebody else's.
        if re.fullmatch("[0-9]{8,18}", digits) and path.name == _name(int(digits)):
            steps.append(int(digits))
    return [Path(folder, "checkpoints", _name(step)) for step in sorted(steps)]


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _holds_no_more(path: Path) -> bool:
    """Whether nothing but a checkpoint's files is in a folder."""
    return path.is_dir() and {entry.name for entry in path.iterdir()} <= set(FILES)


def _describe(arrays: Arrays) -> dict[str, str]:
    return {name: f"{array.dtype.name} {array.shape}" for name, array in arrays.items()}


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
