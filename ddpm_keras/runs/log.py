"""A run's `log.csv`: written, cut at a resume, read, and drawn as curves."""

import csv
import math
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ddpm_keras.files import written_whole

COLUMNS = ("loss", "val_loss", "kid", "swd")  # behind the epoch
LOSSES = ("loss", "val_loss")  # share the first panel; other columns get one each


class Log(keras.callbacks.CSVLogger):
    """Keras' `CSVLogger` with the same columns in every run.

    A run that goes on may measure what it did not before, or no longer: the rows still
    stand under their names.
    """

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self.keys = list(COLUMNS)


def cut_log(path, epochs):
    """Leave the rows of the first epochs: later ones are run again."""
    path = Path(path)
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        with written_whole(path) as temporary:
            temporary.write_bytes(b"".join(lines[: 1 + epochs]))


def read_log(path):
    """The columns of a `log.csv` as `CSVLogger` writes it, also one cut short.

    Args:
        path: The file; there may be none.

    Returns:
        An int array of shape `(num_rows,)`, the epochs counted from 1, and a dict from
        the other columns that hold a number to float arrays of that shape, NaN where a
        row has none.
    """
    rows = []
    if Path(path).is_file():
        with open(path, newline="", encoding="utf-8") as file:
            rows = [
                r for r in csv.DictReader(file) if (r.get("epoch") or "").isdecimal()
            ]
    epochs = np.array([int(row["epoch"]) + 1 for row in rows], int)
    names = [name for name in (rows[0] if rows else {}) if name and name != "epoch"]
    curves = {name: np.array([_number(row[name]) for row in rows]) for name in names}
    return epochs, {k: v for k, v in curves.items() if np.isfinite(v).any()}


def save_curves(path, epochs, curves):
    """Plot the columns of a log over the epochs: losses together, then each other.

    Args:
        path: The PNG to write.
        epochs: Array of shape `(num_rows,)`.
        curves: Dict from names to arrays of that shape, as `read_log` returns it.
    """
    losses = [name for name in LOSSES if name in curves]
    panels = [losses] if losses else []
    panels += [[name] for name in curves if name not in LOSSES]
    # Not pyplot, which would load the reader's backend and keep every figure.
    figure = Figure(figsize=(8, 3.2 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, names in zip(grid, panels, strict=True):
        for name in names:
            known = np.isfinite(curves[name])  # not every epoch has every number
            marker = "." if known.sum() < 30 else ""  # a single epoch is no line
            axes.plot(epochs[known], curves[name][known], marker=marker, label=name)
        values = np.concatenate([curves[name] for name in names])
        values = values[np.isfinite(values)]
        if 0 < 10 * values.min() < values.max():  # else few of the ticks would show
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _number(text):
    """A cell of a log; NaN for one that is missing or, as Keras' `NA`, no number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan
