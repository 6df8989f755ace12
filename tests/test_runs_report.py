"""A run on one page; the page is read back as a browser would."""

import json
import os
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import keras
import numpy as np
import pytest
from PIL import Image

from ddpm_keras.config import Config
from ddpm_keras.data.pixels import save_png
from ddpm_keras.errors import InputError
from ddpm_keras.runs import report
from ddpm_keras.runs.grids import SampleGrid
from ddpm_keras.runs.log import read_log, save_curves
from ddpm_keras.runs.report import MOST_GRIDS, Report, write_report

VOID = {"meta", "img"}  # elements that have no end


class Page(HTMLParser):
    """The text, links and tables of a page; asserts that every element is closed."""

    def __init__(self, path):
        super().__init__()
        self.text, self.links, self.tags, self.rows, self.open = "", [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if {"th", "td"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture
def run_folder(tmp_path):
    """A function that makes a run's folder."""

    def make(log=None, grids=(), metrics=None, **config):
        folder = tmp_path / "runs" / "demo" / "001"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(Config(**config).to_yaml())
        if log is not None:
            (folder / "log.csv").write_text(log)
        for epoch in grids:
            pixels = np.full((4, 4, 3), epoch % 256, "uint8")
            save_png(folder / "samples" / f"epoch-{epoch:04d}.png", pixels)
        if metrics is not None:
            (folder / "evaluation").mkdir()
            (folder / "evaluation" / "metrics.json").write_text(metrics)
        return folder

    return make


LOG = "epoch,loss,val_loss\n0,0.5,0.6\n1,0.25,0.2\n2,0.125,0.3\n"
RESULT = {"value": 0.0123, "error": 0.001, "reference": None, "reference_error": None}
METRICS = {
    "results": {"kid": RESULT, "fid": RESULT | {"error": None, "reference": 5.0}},
    "warnings": ["too few <images>"],
    "protocol": {"seed": 7},
}


# The log.


def test_log_is_read_with_epochs_from_1():
    log = Path(os.devnull)
    assert read_log(log)[1] == {}
    assert len(read_log(log)[0]) == 0


def test_columns_of_a_log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss,swd 16,empty\n0,0.5,NA,NA\n1,0.25,3.5,NA\n2,nan,")
    epochs, curves = read_log(path)
    np.testing.assert_array_equal(epochs, [1, 2, 3])
    assert list(curves) == ["loss", "swd 16"]
    np.testing.assert_array_equal(curves["loss"], [0.5, 0.25, np.nan])
    np.testing.assert_array_equal(curves["swd 16"], [np.nan, 3.5, np.nan])


def test_log_of_keras_is_read(tmp_path):
    """`CSVLogger` itself writes it, with a column that comes later."""
    logger = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    logger.on_train_begin()
    logger.set_model(keras.Sequential())
    for epoch, loss in enumerate((0.5, 0.25)):
        logger.on_epoch_end(epoch, {"loss": loss, "val_loss": 2 * loss})
    logger.on_train_end()
    epochs, curves = read_log(tmp_path / "log.csv")
    np.testing.assert_array_equal(epochs, [1, 2])
    assert {name: list(values) for name, values in curves.items()} == {
        "loss": [0.5, 0.25],
        "val_loss": [1.0, 0.5],
    }


def test_a_panel_for_losses_and_one_for_each_other_column(tmp_path):
    losses = {"loss": np.array([1.0, 0.01]), "val_loss": np.array([1.0, 0.02])}
    sizes = []
    for more in ({}, {"kid": np.array([np.nan, -0.01])}):
        save_curves(tmp_path / "loss.png", np.array([1, 2]), losses | more)
        with Image.open(tmp_path / "loss.png") as image:
            sizes.append(image.size)
    assert sizes[1] == (sizes[0][0], 2 * sizes[0][1])


def test_curve_between_gaps_is_drawn(tmp_path):
    """Numbers that only some epochs have show as well."""

    def ink(values):
        save_curves(tmp_path / "loss.png", np.arange(60), {"swd": np.array(values)})
        with Image.open(tmp_path / "loss.png") as image:
            pixels = np.asarray(image.convert("RGB")).astype(int)
        return (pixels[..., 2] - pixels[..., 0] > 60).sum()  # the first line is blue

    full = np.linspace(3.0, 1.0, 60)
    gaps = np.where(np.arange(60) % 5 == 0, full, np.nan)
    assert ink(gaps) > 0.8 * ink(full)


def test_figure_leaves_the_backend_of_matplotlib_alone(run_folder, monkeypatch):
    import matplotlib

    with matplotlib.rc_context({"backend": "svg"}):
        write_report(run_folder(log=LOG))
        assert matplotlib.rcParams["backend"] == "svg"


# The page.


def test_page_of_a_run(run_folder):
    folder = run_folder(LOG, [1, 10], json.dumps(METRICS), img_size=32, num_epochs=10)
    assert write_report(folder) == folder / "report.html"
    page = Page(folder / "report.html")
    assert ["epochs", "3 of 10"] in page.rows
    assert ["loss", "0.125"] in page.rows
    assert ["least val_loss", "0.2, in epoch 2"] in page.rows
    assert ["img_size", "32", "64"] in page.rows
    assert ["num_epochs", "10", "800"] in page.rows
    assert ["kid", "0.0123 ± 0.001", ""] in page.rows
    assert ["fid", "0.0123", "5"] in page.rows
    assert "Warning: too few <images>" in page.text
    assert '"seed": 7' in page.text
    assert Config(img_size=32, num_epochs=10).to_yaml() in page.text


def test_page_stands_on_its_own(run_folder):
    folder = run_folder(LOG, [1, 10], json.dumps(METRICS))
    save_png(folder / "evaluation" / "closest pairs.png", np.zeros((4, 4), "uint8"))
    page = Page(write_report(folder))
    assert "script" not in page.tags and "link" not in page.tags
    assert "loss.png" in page.links
    assert "evaluation/closest%20pairs.png" in page.links
    for link in page.links:
        parts = urlsplit(link)
        assert not parts.scheme and not parts.netloc and not link.startswith("/")
        with Image.open(folder / unquote(link)) as image:
            image.verify()


def test_page_of_a_run_that_has_only_begun(run_folder):
    folder = run_folder()
    page = Page(write_report(folder))
    assert ["epochs", "0 of 800"] in page.rows
    assert page.links == []
    assert "Samples" not in page.text and "Loss" not in page.text
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "report.html",
    ]


def test_nothing_in_a_configuration_is_taken_for_html(run_folder):
    text = "<script>alert('&')</script>"
    page = Page(write_report(run_folder(data_dir=text)))
    assert "script" not in page.tags
    assert ["data_dir", json.dumps(text), "null"] in page.rows


def test_many_grids_are_thinned_out_from_the_first_to_the_last(run_folder):
    grids = [10 * k for k in range(1, 81)]
    page = Page(write_report(run_folder(grids=grids)))
    shown = [int(link[14:18]) for link in page.links[::2]]
    assert shown == [10, 20, 30, 50, 70, 110, 160, 240, 360, 540, 800]
    assert f"{len(shown)} of 80 grids" in page.text


def test_few_grids_are_all_shown(run_folder):
    page = Page(write_report(run_folder(grids=range(1, MOST_GRIDS + 1))))
    assert len(page.links) == 2 * MOST_GRIDS
    assert "12 of 12 grids" in page.text


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"results": {"kid": 3}}', "{}", "[" * 100_000, "9" * 5000),
        json.dumps(METRICS).replace("0.0123", "9" * 400),
    ],
    ids=lambda text: text[:20],
)
def test_other_files_called_metrics_are_reported(run_folder, text):
    page = Page(write_report(run_folder(metrics=text)))
    assert "Not a result of ddpm-evaluate." in page.text


def test_paths_that_are_not_utf_8_and_formulas_are_shown(run_folder, tmp_path):
    folder = run_folder(
        log=LOG.replace("val_loss", "$x_{"), metrics=json.dumps(METRICS)
    )
    save_png(folder / "evaluation" / "a\udcff.png", np.zeros((4, 4), "uint8"))
    folder = folder.rename(folder.with_name("run\udcff"))
    page = Page(write_report(folder))
    assert r"run\udcff" in page.text
    assert "evaluation/a%FF.png" in page.links


def test_folder_that_is_no_run(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: holds no config.yaml"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


# The callback.


def train(callback, grids, log, epochs, first=0):
    """Call the callback and write its neighbours' files as `fit` does."""
    callback.set_params({"epochs": epochs})
    callback.on_train_begin()
    for epoch in range(first, epochs):
        with open(log, "a") as file:
            file.write(f"{epoch},{1 / (1 + epoch)}\n")
        if grids.every and (epoch + 1) % grids.every == 0:
            save_png(grids.path(epoch + 1), np.zeros((4, 4, 3), "uint8"))
        callback.on_epoch_end(epoch, {})
        yield epoch + 1
    callback.on_train_end()


@pytest.mark.parametrize("every, written", [(2, [2, 4, 5]), (0, [5]), (5, [5])])
def test_page_follows_the_grids_and_the_end(run_folder, every, written):
    folder = run_folder(log="epoch,loss\n", num_epochs=5)
    grids = SampleGrid(folder / "samples", every=every)
    seen = []
    for _ in train(Report(folder, grids), grids, folder / "log.csv", epochs=5):
        seen.append(shown_epochs(folder))
    seen.append(shown_epochs(folder))
    assert sorted(set(seen) - {None}) == written


def shown_epochs(folder):
    if not (folder / "report.html").exists():
        return None
    rows = dict(row[:2] for row in Page(folder / "report.html").rows)
    return int(rows["epochs"].split()[0])


def test_interrupted_writing_leaves_the_page_before(run_folder, monkeypatch):
    folder = run_folder(log=LOG)
    before = write_report(folder).read_bytes()
    (folder / "log.csv").write_text(LOG + "3,0.1,0.1\n")

    def interrupted(*args, **kwargs):
        Path(args[0]).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_report(folder)
    assert (folder / "report.html").read_bytes() == before
    assert not list(folder.glob(".*"))
    write_report(folder)
    assert shown_epochs(folder) == 4


def test_full_disk_is_a_warning(run_folder, monkeypatch, capsys):
    folder = run_folder(log=LOG)
    grids = SampleGrid(folder / "samples", every=1)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert list(train(Report(folder, grids), grids, folder / "log.csv", 1)) == [1]
    assert capsys.readouterr().err.startswith(f"warning: {folder}/report.html: [Errno")


def test_any_exception_of_the_report_is_one_warning(run_folder, monkeypatch, capsys):
    folder = run_folder(log=LOG)
    grids = SampleGrid(folder / "samples", every=1)

    def fails(*args):
        raise OverflowError("too large")

    monkeypatch.setattr(report, "save_curves", fails)
    assert list(train(Report(folder, grids), grids, folder / "log.csv", 3)) == [1, 2, 3]
    assert capsys.readouterr().err == (
        f"warning: {folder}/report.html: too large; training goes on\n"
    )


def test_configuration_spoilt_in_training_is_a_warning(run_folder, capsys):
    folder = run_folder(log=LOG)
    grids = SampleGrid(folder / "samples", every=1)
    for epoch in train(Report(folder, grids), grids, folder / "log.csv", 2):
        (folder / "config.yaml").write_text("seed: x\n")
    assert epoch == 2
    assert capsys.readouterr().err.startswith(f"warning: {folder}/report.html: ")


def test_callback_refuses_a_folder_without_a_run_before_training(tmp_path):
    callback = Report(tmp_path, SampleGrid(tmp_path / "samples"))
    with pytest.raises(InputError, match="holds no config.yaml"):
        callback.on_train_begin()
