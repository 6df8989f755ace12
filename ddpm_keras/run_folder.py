"""A run's folder: numbered, never written over, and enough to sample from."""

from pathlib import Path

from ddpm_keras.errors import InputError
from ddpm_keras.files import written_whole


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
        if any(folder.iterdir()):
            raise InputError(
                f"--run-dir: {folder} is not empty, and runs are never written over; "
                "name a new folder"
            )
        with written_whole(folder / "config.yaml") as file:
            file.write_text(config.to_yaml())
    except OSError as error:
        raise InputError(
            f"--run-dir: cannot write to {error.filename} ({error.strerror}); name a "
            "folder that you may write to"
        ) from error
    return folder


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
