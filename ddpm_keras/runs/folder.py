"""Run folders: numbered, never overwritten by accident, sufficient for sampling."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpm_keras.config import RESUMABLE, Config
from ddpm_keras.config_file import load_config
from ddpm_keras.errors import InputError, printable
from ddpm_keras.files import force_to_disk, written_whole

CONFIG = "config.yaml"
SKIPPED = "skipped_images.txt"
# What `written_whole` and `runs.checkpoint` leave when they are killed.
LEFTOVER = re.compile(
    r"\.(config\.yaml|log\.csv|run\.json|loss\.png|training\.png|report\.html"
    r"|skipped_images\.txt"
    r"|(weights|best)\.safetensors|epoch-\d+\.png)\.\w+\.tmp|\.step-\d{8,}(\.\w+)?\.tmp"
)


def make_run_folder(
    config: Config, name: str | None, run_dir: Path | str | None = None
) -> Path:
    """Make the folder of a new run, write its configuration there, and return it.

    Args:
        config: The configuration of the run.
        name: Name of the configuration: the folder is `runs/NAME/001` or the next free
            number.
        run_dir: A new or empty folder to use instead.

    Raises:
        InputError: When `run_dir` is not empty, or a folder cannot be made.
    """
    try:
        folder = _numbered(Path("runs", name)) if run_dir is None else Path(run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CONFIG).exists():
            raise InputError(
                f"--run-dir: {folder} holds a run; add --resume to continue it, or "
                "name a new folder"
            )
        if not all(map(_is_leftover, folder.iterdir())):
            raise InputError(
                f"--run-dir: {folder} is not empty, and runs are never written over; "
                "name a new folder"
            )
    except OSError as error:
        raise _not_writable(error) from error
    write_config(folder, config)
    return folder


def resume_run_folder(config: Config, run_dir: Path | str) -> Path:
    """Return the folder of a run to resume; make it if the run has not begun.

    Args:
        config: The configuration to resume with. It may differ from the stored one in
            the keys of `config.RESUMABLE` only, and does not replace it yet: the run
            may be refused for its images, or be running.
        run_dir: The folder.

    Raises:
        InputError: When other keys differ, or a folder cannot be made.
    """
    folder = Path(run_dir)
    if not (folder / CONFIG).exists():
        return make_run_folder(config, None, run_dir)
    before = load_config(folder / CONFIG).model_dump()
    check_same_run(folder, before, config)
    changed = _changes(before, config)
    if changed:
        print(printable(f"changed: {', '.join(changed.values())}"))
    if "num_epochs" in changed and config.learning_rate_decay != "none":
        print(
            "learning_rate_decay: the rate goes on at its place on the "
            f"{config.learning_rate_decay} curve that ends after epoch "
            f"{config.num_epochs}"
        )
    return folder


def check_same_run(folder: Path, before: Mapping[str, Any], config: Config) -> None:
    """Raise an `InputError` unless a configuration goes on with a run.

    Args:
        folder: The run folder.
        before: The keys that the run was begun with, by name. Keys that a version of
            that time did not know had their defaults.
        config: The configuration to resume with.
    """
    before = {**Config().model_dump(), **before}
    changes = _changes(before, config).items()
    others = [text for key, text in changes if key not in RESUMABLE]
    if others:
        raise InputError(
            f"--resume: {folder} was begun with other values of {', '.join(others)}; "
            "leave them as they were, or start a new run"
        )


def _changes(before: Mapping[str, Any], config: Config) -> dict[str, str]:
    """Describe each key that differs."""
    return {
        key: f"{key} (was {before[key]}, is {value})"
        for key, value in config.model_dump().items()
        if value != before[key] and (key, value) != ("class_names", None)
    }


def discard_unused(folder: Path) -> None:
    """Remove a run folder, if it is there, in which no step was saved."""
    if not folder.is_dir():
        return
    remove_leftovers(folder)
    if {path.name for path in folder.iterdir()} <= {CONFIG, SKIPPED, ".lock"}:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def remove_leftovers(folder: Path | str) -> None:
    """Remove the temporary files of killed processes from a run folder.

    No other process may be writing there.
    """
    for place in ("", "samples", "checkpoints"):
        for path in sorted(Path(folder, place).glob(".*.tmp")):
            if not _is_leftover(path):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_leftover(path: Path) -> bool:
    return LEFTOVER.fullmatch(path.name) is not None


def write_config(folder: Path, config: Config) -> None:
    """Write a run's configuration, or raise an `InputError` when that is impossible."""
    try:
        with written_whole(folder / CONFIG) as file:
            file.write_text(config.to_yaml(), encoding="utf-8")
            force_to_disk(file)  # a run whose file is empty cannot be resumed
    except OSError as error:
        raise _not_writable(error) from error


def _not_writable(error: OSError) -> InputError:
    return InputError(
        f"--run-dir: cannot write to {error.filename or CONFIG} ({error.strerror}); "
        "name a folder that you may write to"
    )


def _numbered(parent: Path) -> Path:
    """Make and return the next free folder of 001, 002, ..."""
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(p.name) for p in parent.glob("*") if p.name.isdecimal()]
    number = max(taken, default=0) + 1
    while True:
        folder = parent / f"{number:03d}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:  # another run has just taken it
            number += 1
