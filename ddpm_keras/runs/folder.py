"""A run's folder: numbered, never written over by accident, enough to sample from."""

from pathlib import Path

from ddpm_keras.config import RESUMABLE, load_config
from ddpm_keras.errors import InputError
from ddpm_keras.files import written_whole

CONFIG = "config.yaml"


def make_run_folder(config, name, run_dir=None):
    """Make the folder of a new run and write its configuration there.

    Args:
        config: The `Config` of the run.
        name: The configuration's name; the run goes to `runs/NAME/001`, or the next
            free number.
        run_dir: A folder to use in place of that one; new or empty.

    Returns:
        The folder's `pathlib.Path`.

    Raises:
        InputError: When `run_dir` holds something, or a folder cannot be made.
    """
    try:
        folder = _numbered(Path("runs") / name) if run_dir is None else Path(run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CONFIG).exists():
            raise InputError(
                f"--run-dir: {folder} holds a run; add --resume to go on with it, or "
                "name a new folder"
            )
        if any(folder.iterdir()):
            raise InputError(
                f"--run-dir: {folder} is not empty, and runs are never written over; "
                "name a new folder"
            )
    except OSError as error:
        raise _not_writable(error) from error
    write_config(folder, config)
    return folder


def resume_run_folder(config, run_dir):
    """Take up the folder of a run that was begun; make it if it was not.

    Args:
        config: The `Config` to go on with. It may differ from the one in the folder in
            the keys of `config.RESUMABLE` only. It does not replace that one yet: the
            run may be refused for its images, or be running.
        run_dir: The folder.

    Returns:
        The folder's `pathlib.Path`.

    Raises:
        InputError: When other keys differ, or a folder cannot be made.
    """
    folder = Path(run_dir)
    if not (folder / CONFIG).exists():
        return make_run_folder(config, None, run_dir)
    before = load_config(folder / CONFIG).model_dump()
    changed = {
        key: f"{key} (was {before[key]}, is {value})"
        for key, value in config.model_dump().items()
        if value != before[key]
    }
    others = [text for key, text in changed.items() if key not in RESUMABLE]
    if others:
        raise InputError(
            f"--resume: {folder} was begun with other values of {', '.join(others)}; "
            "leave them as they were, or start a new run"
        )
    if changed:
        print(f"changed: {', '.join(changed.values())}")
    return folder


def discard_unused(folder):
    """Remove a run's folder that holds nothing but its configuration."""
    if {path.name for path in folder.iterdir()} <= {CONFIG, ".lock"}:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def write_config(folder, config):
    """Write a run's configuration to its folder.

    Raises:
        InputError: When the folder cannot be written to.
    """
    try:
        with written_whole(folder / CONFIG) as file:
            file.write_text(config.to_yaml())
    except OSError as error:
        raise _not_writable(error) from error


def _not_writable(error):
    return InputError(
        f"--run-dir: cannot write to {error.filename} ({error.strerror}); name a "
        "folder that you may write to"
    )


def _numbered(parent):
    """Make the first free one of 001, 002, ... and return it."""
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(p.name) for p in parent.glob("*") if p.name.isdecimal()]
    number = max(taken, default=0) + 1
    while True:
        folder = parent / f"{number:03d}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:  # another run took it between the look and the making
            number += 1
