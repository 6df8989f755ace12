"""The `log.csv` of a run: writing, repairing, reading and plotting."""

import contextlib
import csv
import math
import os
import re
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ddpm_keras.errors import short, warn
from ddpm_keras.files import force_to_disk, set_aside, written_whole
from ddpm_keras.runs.attempts import Attempts

COLUMNS = ("loss", "val_loss", "kid")  # after the epoch
LOSSES = ("loss", "val_loss")  # share a panel; each other column has its own


class Log(keras.callbacks.Callback):
    """Writer of `log.csv`, a row for each epoch.

    The whole file is written for each row, so that no damage lasts. A failure is a
    warning, and the next row is written together with those that are missing.

    Args:
        path: The file.
        lines: Its lines so far, without their ends, as `open_log` returns them. Rows
            are appended to this list, which every checkpoint keeps.
    """

    def __init__(self, path: Path, lines: list[str]) -> None:
        super().__init__()
        self.path = path
        self.lines = lines
        self._attempts = Attempts()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # A log keeps its columns, such as `swd` of earlier versions: a run that goes on
        # may measure other things.
        _, *columns = self.lines[0].split(",")
        values = [(logs or {}).get(name, "NA") for name in columns]
        self.lines.append(",".join(map(str, [epoch, *values])))
        with self._attempts.attempt(self.path):
            _write(self.path, self.lines)


def open_log(path: Path, epochs: int, saved: list[str] | None) -> list[str]:
    """Make a run's log hold the rows of the first epochs alone; return its lines.

    Later epochs run again. A log that is not as its checkpoint says is written anew,
    with a warning, and kept under another name if it holds anything else.

    Args:
        path: The file.
        epochs: The number of epochs completed.
        saved: The lines in the checkpoint. None if there is none or an earlier version
            wrote it: rows are then sought in the file, by their numbers.
    """
    found = None
    if path.is_file():  # reading anything else might never end
        with contextlib.suppress(OSError):
            found = path.read_bytes()
    if saved is None:
        text = (found or b"").decode("utf-8-sig", "replace")
        saved = text.replace("\0", "").splitlines()
    lines = _first_rows(saved, epochs)
    wanted = _encoded(lines)
    if found is None and not os.path.lexists(path) and not epochs:
        return lines
    if found is None or not _goes_on(found, wanted):
        kept = ""
        if os.path.lexists(path) and (found is None or not wanted.startswith(found)):
            kept = f", the file that was there is kept as {set_aside(path).name}"
        if epochs or kept:
            warn(f"{path}: its {epochs} rows are written anew{kept}")
    if found != wanted:
        _write(path, lines)
    return lines


def _first_rows(lines: list[str], epochs: int) -> list[str]:
    """Return the header and a row for each of the first epochs; what lacks is NA."""
    header = lines[0] if lines else ""
    if not header.startswith("epoch,"):
        header = ",".join(("epoch", *COLUMNS))
    rows = {}
    for line in lines:
        number, *values = line.split(",")
        if re.fullmatch("[0-9]{1,9}", number):
            rows.setdefault(int(number), values)
    unknown = ["NA"] * header.count(",")
    rows = [(n, *[*rows.get(n, ()), *unknown][: len(unknown)]) for n in range(epochs)]
    return [header, *(",".join(map(str, row)) for row in rows)]


def _goes_on(found: bytes, wanted: bytes) -> bool:
    """Whether a file holds the wanted rows and nothing else but later ones."""
    later = found[len(wanted) :].splitlines()
    return found.startswith(wanted) and all(re.match(rb"\d+,", row) for row in later)


def _encoded(lines: list[str]) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()


def _write(path: Path, lines: list[str]) -> None:
    with written_whole(path) as temporary:
        temporary.write_bytes(_encoded(lines))
        force_to_disk(temporary)


def read_log(path: Path | str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read a `log.csv`, which may be missing, cut short or damaged.

    Returns:
        An int array of shape `(num_rows,)`, the epochs counted from 1, and a dict from
        each other column that has a number to a float array of that shape, NaN where a
        row has none.
    """
    rows = []
    if Path(path).is_file():
        with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
            with contextlib.suppress(csv.Error):  # keep the rows before
                rows.extend(csv.DictReader(file))
    rows = [r for r in rows if re.fullmatch("[0-9]{1,9}", r.get("epoch") or "")]
    epochs = np.array([int(row["epoch"]) + 1 for row in rows], int)
    names = [name for name in (rows[0] if rows else {}) if name and name != "epoch"]
    curves = {name: np.array([_number(row[name]) for row in rows]) for name in names}
    return epochs, {k: v for k, v in curves.items() if np.isfinite(v).any()}


def save_curves(
    path: Path | str, epochs: np.ndarray, curves: dict[str, np.ndarray]
) -> None:
    """Plot the columns of a log, as `read_log` returns them, to a PNG.

    The losses share a panel; each other column has its own.
    """
    losses = [name for name in LOSSES if name in curves]
    panels = [losses] if losses else []
    panels += [[name] for name in curves if name not in LOSSES]
    # pyplot would load a backend and keep every figure.
    figure = Figure(figsize=(6, 2.8 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, names in zip(grid, panels, strict=True):
        for name in names:
            known = np.isfinite(curves[name])
            marker = "." if known.sum() < 30 else ""  # a line needs two epochs
            label = short(name).replace("$", r"\$")  # else a formula
            axes.plot(epochs[known], curves[name][known], marker=marker, label=label)
        values = np.concatenate([curves[name] for name in names])
        values = values[np.isfinite(values)]
        if 0 < 1.5 * values.min() < values.max():  # else too few ticks
            axes.set_yscale("log")
            is_wide = 10 * values.min() < values.max()
            subs = (1, 2, 5) if is_wide else (1, 1.5, 2, 3, 4, 5, 6, 8)
            axes.yaxis.set_major_locator(LogLocator(subs=subs))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="epoch")
        if set(names) <= set(COLUMNS):
            axes.set(ylabel="lower is better")
        axes.grid(alpha=0.3)
        axes.legend()
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160)


def _number(text: str | None) -> float:
    """Read a cell; NaN when it is missing or, like Keras' `NA`, not a number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan
