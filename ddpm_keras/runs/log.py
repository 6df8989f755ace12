"""The `log.csv` of a run: writing, cutting, reading and plotting."""

import csv
import math
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ddpm_keras.files import written_whole

COLUMNS = ("loss", "val_loss", "kid")  # after the epoch
LOSSES = ("loss", "val_loss")  # share a panel; each other column has its own


class Log(keras.callbacks.CSVLogger):
    """Keras' `CSVLogger` with fixed columns: a resumed run may measure other things.

    A log that exists keeps its columns, such as `swd` of earlier versions.
    """

    def on_train_begin(self, logs: dict | None = None) -> None:
        header = []
        if self.append and Path(self.filename).is_file():
            with open(self.filename, newline="", encoding="utf-8") as file:
                header = next(csv.reader(file), [])
        super().on_train_begin(logs)
        self.keys = header[1:] or list(COLUMNS)


def cut_log(path: Path, epochs: int) -> None:
    """Keep the rows of the first epochs only; later epochs run again."""
    if path.exists():
        lines = path.read_bytes().splitlines(keepends=True)
        with written_whole(path) as temporary:
            temporary.write_bytes(b"".join(lines[: 1 + epochs]))


def read_log(path: Path | str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Read a `log.csv`, which may be missing or cut short.

    Returns:
        An int array of shape `(num_rows,)`, the epochs counted from 1, and a dict from
        each other column that has a number to a float array of that shape, NaN where a
        row has none.
    """
    rows = []
    if Path(path).is_file():
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    rows = [row for row in rows if (row.get("epoch") or "").isdecimal()]
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
    figure = Figure(figsize=(8, 3.2 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    for axes, names in zip(grid, panels, strict=True):
        for name in names:
            known = np.isfinite(curves[name])
            marker = "." if known.sum() < 30 else ""  # a line needs two epochs
            axes.plot(epochs[known], curves[name][known], marker=marker, label=name)
        values = np.concatenate([curves[name] for name in names])
        values = values[np.isfinite(values)]
        if 0 < 10 * values.min() < values.max():  # else too few ticks
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


def _number(text: str | None) -> float:
    """Read a cell; NaN when it is missing or, like Keras' `NA`, not a number."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan
