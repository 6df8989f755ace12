"""`report.html`: a run on one page, written while it trains."""

from pathlib import Path
from time import monotonic

import keras

from ddpm_keras.config_file import load_config
from ddpm_keras.data.pixels import save_png
from ddpm_keras.errors import InputError
from ddpm_keras.files import written_whole
from ddpm_keras.runs import sections
from ddpm_keras.runs.attempts import Attempts
from ddpm_keras.runs.folder import CONFIG
from ddpm_keras.runs.log import read_log, save_curves
from ddpm_keras.runs.page import page
from ddpm_keras.runs.record import Record

REPORT = "report.html"


class Report(keras.callbacks.Callback):
    """Writer of `report.html` and `loss.png`, after each new grid and at the end.

    It also writes `training.png`, real images in the places of the grids' samples, and
    `run.json`, see `Record`. Put it after `Log` and `SampleGrid`, whose files it shows.
    A failure to write is a warning.

    Args:
        folder: The run folder, which must hold `config.yaml`.
        grids: The `SampleGrid` of the run.
        images: The `Images` to train on.
    """

    def __init__(self, folder, grids, images):
        super().__init__()
        self.folder = Path(folder)
        self.grids = grids
        self.images = images
        self._record = None
        self._begun, self._steps = 0.0, []  # of the epoch: its start, its steps' ends
        self._stale = False
        self._attempts = Attempts()

    def on_train_begin(self, logs=None):
        config = _read_config(self.folder)  # fail now rather than after an epoch
        number = len(self.images)
        self._record = Record.begin(self.folder, number, number // config.batch_size)

    def on_epoch_begin(self, epoch, logs=None):
        self._begun, self._steps = monotonic(), []

    def on_train_batch_end(self, batch, logs=None):
        self._steps.append(monotonic())

    def on_epoch_end(self, epoch, logs=None):
        seconds = monotonic() - self._begun
        self._stale = True
        with self._attempts.attempt(self.folder / REPORT):
            stepping = self._steps[-1] - self._steps[0]
            self._record.add(epoch + 1, seconds, len(self._steps), stepping)
            self._record.write(self.folder)
            real = self.folder / sections.TRAINING
            if not real.exists():
                save_png(real, self.grids.real_grid(self.images))
            if self.grids.path(epoch + 1).exists():
                self._write()

    def on_train_end(self, logs=None):
        if self._stale:
            with self._attempts.attempt(self.folder / REPORT):
                self._write()

    def _write(self):
        write_report(self.folder)
        self._stale = False


def write_report(folder):
    """Write `report.html` to a run folder, and `loss.png` if `log.csv` has a row.

    The page needs no other file or site and no script: it holds its pictures, the
    larger ones with losses that hardly show, so that it can be sent.

    Args:
        folder: The run folder with `config.yaml` and any of `log.csv`, `run.json`,
            `training.png`, `samples`, and `metrics.json`, there or one level below.

    Returns:
        The path of the page.

    Raises:
        InputError: When the folder holds no valid `config.yaml`.
    """
    folder = Path(folder)
    config = _read_config(folder)
    epochs, curves = read_log(folder / "log.csv")
    if curves:
        save_curves(folder / "loss.png", epochs, curves)
    parts = [
        *sections.summary(config, epochs, curves, Record.read(folder)),
        *sections.losses(folder, config, curves),
        *sections.samples(folder, config),
        *sections.measures(folder),
        *sections.commands(folder, config, epochs),
        *sections.configuration(config),
    ]
    title = f"{folder.absolute().parent.name}/{folder.absolute().name}"
    with written_whole(folder / REPORT) as temporary:
        # Paths that are not UTF-8 hold surrogates.
        text = page(title, parts)
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return folder / REPORT


def _read_config(folder):
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: holds no {CONFIG}; name the folder of a run")
    return load_config(folder / CONFIG)
