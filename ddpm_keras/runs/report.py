"""`report.html`: the configuration, curves, grids and metrics of a run on one page."""

import html
import json
import os
from pathlib import Path
from urllib.parse import quote

import keras
import numpy as np

from ddpm_keras.config import Config, load_config
from ddpm_keras.errors import InputError
from ddpm_keras.files import written_whole
from ddpm_keras.metrics.evaluation import with_error
from ddpm_keras.runs.attempts import Attempts
from ddpm_keras.runs.folder import CONFIG
from ddpm_keras.runs.log import read_log, save_curves

REPORT = "report.html"
MOST_GRIDS = 12
CURVES = ("<h2>Loss</h2>", '<img src="loss.png" alt="The curves of log.csv">')

STYLE = """\
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; }
th, td { padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top; }
td { font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
pre { overflow-x: auto; background: #f6f6f6; padding: .5rem 1rem; }
.grids { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); }
figure { margin: 0; }
.grids img { width: 100%; image-rendering: pixelated; }
"""


class Report(keras.callbacks.Callback):
    """Writer of `report.html` and `loss.png`, after each new grid and at the end.

    Put it after `Log` and `SampleGrid`, whose files it shows. A failure to write is a
    warning.

    Args:
        folder: The run folder, which must hold `config.yaml`.
        grids: The `SampleGrid` of the run.
    """

    def __init__(self, folder, grids):
        super().__init__()
        self.folder = Path(folder)
        self.grids = grids
        self._stale = False
        self._attempts = Attempts()

    def on_train_begin(self, logs=None):
        _read_config(self.folder)  # fail now rather than after an epoch

    def on_epoch_end(self, epoch, logs=None):
        self._stale = True
        if self.grids.path(epoch + 1).exists():
            self._write()

    def on_train_end(self, logs=None):
        if self._stale:
            self._write()

    def _write(self):
        with self._attempts.attempt(self.folder / REPORT):
            write_report(self.folder)
        self._stale = False


def write_report(folder):
    """Write `report.html` to a run folder, and `loss.png` if `log.csv` has a row.

    The page needs no other site and no script; it links pictures by relative paths.

    Args:
        folder: The run folder with `config.yaml` and any of `log.csv`, `samples`, and
            `metrics.json`, there or one level below.

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
    title = html.escape(f"{folder.absolute().parent.name}/{folder.absolute().name}")
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>\n{STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        *_summary(config, epochs, curves),
        *(CURVES if curves else []),
        *_grids(folder),
        *_measures(folder),
        *_configuration(config),
        "</body></html>",
    ]
    with written_whole(folder / REPORT) as temporary:
        text = "\n".join(parts) + "\n"
        # Paths that are not UTF-8 hold surrogates.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return folder / REPORT


def _read_config(folder):
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: holds no {CONFIG}; name the folder of a run")
    return load_config(folder / CONFIG)


# The functions below return parts of the page as lists of lines.


def _summary(config, epochs, curves):
    rows = [
        ("data", config.dataset_name),
        ("epochs", f"{epochs.max() if len(epochs) else 0} of {config.num_epochs}"),
    ]
    if "loss" in curves:
        rows.append(("loss", f"{curves['loss'][-1]:.4g}"))
    if "val_loss" in curves:
        best = np.nanargmin(curves["val_loss"])
        least = f"{curves['val_loss'][best]:.4g}"
        rows.append(("least val_loss", f"{least}, in epoch {epochs[best]}"))
    return _table(rows)


def _grids(folder):
    paths = sorted((folder / "samples").glob("epoch-*.png"))
    if not paths:
        return []
    shown = paths
    if len(paths) > MOST_GRIDS:  # ever more rarely: grids change most at first
        places = np.geomspace(1, len(paths), MOST_GRIDS).round().astype(int)
        shown = [paths[place - 1] for place in np.unique(places)]
    lines = [
        "<h2>Samples</h2>",
        f"<p>{len(shown)} of {len(paths)} grids, always from the same noise. In the "
        "first epochs they show coloured noise; that is as it should be.</p>",
        '<div class="grids">',
    ]
    for path in shown:
        link = quote(f"samples/{path.name}")
        number = path.stem.removeprefix("epoch-").lstrip("0")
        name = html.escape(f"epoch {number}")
        lines.append(
            f'<figure><a href="{link}"><img src="{link}" alt="{name}" loading="lazy">'
            f"</a><figcaption>{name}</figcaption></figure>"
        )
    return [*lines, "</div>"]


def _measures(folder):
    lines = []
    for path in sorted([*folder.glob("metrics.json"), *folder.glob("*/metrics.json")]):
        name = path.relative_to(folder).as_posix()
        lines.append(f"<h2>Measures: {html.escape(name)}</h2>")
        try:
            lines += _results(json.loads(path.read_text(encoding="utf-8")))
        except Exception:  # almost anything, such as text nested too deeply
            lines.append("<p>Not a result of ddpm-evaluate.</p>")
            continue
        for picture in sorted(path.parent.glob("*.png")):
            if picture.name != "loss.png":
                link = quote(os.fsencode(picture.relative_to(folder)))
                lines.append(f'<img src="{link}" alt="{html.escape(picture.stem)}">')
    return lines


def _results(metrics):
    rows = []
    for name, result in metrics["results"].items():
        reference = with_error(result["reference"], result["reference_error"])
        rows.append((name, with_error(result["value"], result["error"]), reference))
    protocol = html.escape(json.dumps(metrics["protocol"], indent=2))
    return [
        *_table(rows, ("", "model", "reference")),
        *(f"<p>Warning: {html.escape(text)}</p>" for text in metrics["warnings"]),
        f"<details><summary>Protocol</summary><pre>{protocol}</pre></details>",
    ]


def _configuration(config):
    recipe = Config().model_dump()
    rows = [
        (key, json.dumps(value), json.dumps(recipe[key]))
        for key, value in config.model_dump().items()
        if value != recipe[key]
    ]
    lines = ["<h2>Configuration</h2>"]
    if rows:
        lines += _table(rows, ("key", "here", "in the recipe"))
    return [
        *lines,
        "<details><summary>Every key</summary>",
        f"<pre>{html.escape(config.to_yaml())}</pre></details>",
    ]


def _table(rows, head=None):
    """Return an HTML table; the first cell of each row is its heading."""
    lines = ["<table>"]
    if head:
        lines.append("<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>")
    for name, *cells in rows:
        cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells)
        lines.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return [*lines, "</table>"]
