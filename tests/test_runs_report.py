"""A run on one page; the page is read back as a browser would."""

import base64
import contextlib
import io
import json
import os
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from ddpm_keras.config import Config
from ddpm_keras.data.images import Images
from ddpm_keras.data.pixels import save_png
from ddpm_keras.errors import InputError
from ddpm_keras.runs import report
from ddpm_keras.runs.grids import SampleGrid
from ddpm_keras.runs.log import read_log, save_curves
from ddpm_keras.runs.page import MOST_BYTES
from ddpm_keras.runs.record import Record
from ddpm_keras.runs.report import Report, write_report
from ddpm_keras.runs.sections import MOST_GRIDS

VOID = {"meta", "img"}  # elements that have no end


class Page(HTMLParser):
    """The text, pictures and tables of a page; asserts that every element is closed."""

    def __init__(self, path):
        super().__init__()
        self.text, self.links, self.tags, self.rows, self.open = "", [], [], [], []
        self.pictures = {}  # by the text for those who do not see them
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag == "img":
            self.pictures[dict(attributes)["alt"]] = picture_of(self.links[-1])
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


def picture_of(link):
    """The picture that a link holds, as bytes."""
    start, _, content = link.partition(";base64,")
    assert start.startswith("data:image/")
    return base64.b64decode(content)


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


IMAGES = Images(np.zeros((40, 4, 4, 3), "uint8"))
LOG = "epoch,loss,val_loss\n0,0.5,0.6\n1,0.25,0.2\n2,0.125,0.3\n"
RESULT = {"value": 0.0123, "error": 0.001, "reference": None, "reference_error": None}
METRICS = {
    "results": {"kid": RESULT, "fid": RESULT | {"error": None, "reference": 5.0}},
    "warnings": ["too few <images>"],
    "protocol": {"seed": 7, "extractor": "random:0"},
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


@pytest.mark.parametrize(
    "losses, scale",
    [([1.0, 0.01], "log"), ([0.1, 0.11], "linear"), ([1, -1], "linear")],
)
def test_losses_that_fall_far_have_a_logarithmic_scale(tmp_path, losses, scale):
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "matplotlib.figure.Figure.savefig",
            lambda figure, path, **options: figures.append(figure),
        )
        curves = {"loss": np.array(losses, float)}
        with contextlib.suppress(OSError):  # nothing was written
            save_curves(tmp_path / "loss.png", np.array([1, 2]), curves)
    assert [axes.get_yscale() for axes in figures[0].axes] == [scale]


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
    assert ["loss ↓", "0.125"] in page.rows
    assert ["least val_loss ↓", "0.2, in epoch 2"] in page.rows
    assert ["img_size", "32", "64"] in page.rows
    assert ["num_epochs", "10", "800"] in page.rows
    assert ["kid ↓", "0.0123 ± 0.001", ""] in page.rows
    assert ["fid ↓", "0.0123", "5"] in page.rows
    assert "Features: random:0." in page.text
    assert "Warning: too few <images>" in page.text
    assert '"seed": 7' in page.text
    assert Config(img_size=32, num_epochs=10).to_yaml() in page.text


@pytest.mark.parametrize("features", ["random:0", "efficientnet-lite0"])
def test_features_of_the_kid_are_named(run_folder, features):
    log = "epoch,loss,val_loss,kid\n0,0.5,0.6,nan\n1,0.25,0.2,0.0625\n"
    keys = {"eval_every": 2, "eval_images": 64, "eval_features": features}
    folder = run_folder(log, **keys)
    page = Page(write_report(folder))
    assert f"KID of 64 samples, in features of {features}: about 0" in page.text
    assert ["least kid ↓", "0.0625, in epoch 2"] in page.rows


def test_page_stands_on_its_own(run_folder):
    folder = run_folder(LOG, [1, 10], json.dumps(METRICS))
    save_png(folder / "evaluation" / "closest_pairs.png", np.zeros((4, 4), "uint8"))
    save_png(folder / "training.png", np.zeros((6, 6), "uint8"))
    page = Page(write_report(folder))
    assert not {"script", "link", "a"} & set(page.tags)
    files = {
        "Curves over the epochs: loss, val_loss": "loss.png",
        "samples of epoch 10": "samples/epoch-0010.png",
        "training images": "training.png",
        "epoch 1": "samples/epoch-0001.png",
        "closest pairs": "evaluation/closest_pairs.png",
    }
    assert page.pictures == {k: (folder / v).read_bytes() for k, v in files.items()}


def test_the_last_grid_is_that_of_the_latest_epoch(run_folder):
    folder = run_folder(grids=[9990, 10000])
    pictures = Page(write_report(folder)).pictures
    wanted = (folder / "samples" / "epoch-10000.png").read_bytes()
    assert pictures["samples of epoch 10000"] == wanted


def test_large_pictures_are_made_smaller(run_folder):
    folder = run_folder(grids=[1])
    noise = np.random.default_rng(0).integers(0, 256, (1300, 650, 3), "uint8")
    save_png(folder / "samples" / "epoch-0001.png", noise)
    [content] = Page(write_report(folder)).pictures.values()
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "WEBP" and image.size == (600, 1200)
    before = (folder / "samples" / "epoch-0001.png").stat().st_size
    assert MOST_BYTES < len(content) < before / 3


def test_picture_that_is_cut_short_is_named(run_folder):
    folder = run_folder(grids=[1, 2])
    path = folder / "samples" / "epoch-0001.png"
    path.write_bytes(path.read_bytes()[:50])
    page = Page(write_report(folder))
    assert list(page.pictures) == ["samples of epoch 2"]
    assert "epoch 1: epoch-0001.png cannot be read" in page.text


def test_steps_times_and_versions(run_folder):
    folder = run_folder(LOG, num_epochs=10, batch_size=32)
    record = Record(100, 3, {"keras": "3.0"}, {1: 90.0, 2: 30.0, 3: 30.0})
    record.write(folder)
    rows = dict(Page(write_report(folder)).rows[:10])
    assert rows["training images"] == "100"
    assert rows["steps"] == "9 of 30"
    assert rows["duration"] == "2 min 30 s"
    assert rows["seconds per epoch"] == "50.0"
    assert rows["left at this pace"] == "5 min 50 s"
    assert rows["versions"] == "keras 3.0"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": "?"}', "[" * 100_000])
def test_damaged_record_is_left_out(run_folder, text):
    folder = run_folder(LOG)
    (folder / "run.json").write_text(text)
    assert "steps" not in dict(row[:2] for row in Page(write_report(folder)).rows)
    assert Record.begin(folder, 8, 2).seconds == {}


def test_epochs_that_run_again_are_timed_anew(tmp_path):
    Record(8, 4, {}, {1: 1.0, 2: 2.0, 3: 3.0}).write(tmp_path)
    record = Record.begin(tmp_path, 8, 4)
    record.add(2, seconds=9.0, steps=4, stepping=6.0)
    assert record.seconds == {1: 1.0, 2: 9.0}
    assert {"ddpm_keras", "Python", "keras"} < set(record.versions)


@pytest.mark.parametrize(
    "num_samples, text",
    [(4, "A row for each class: red, <b>."), (3, "In reading order: red, red, <b>.")],
)
def test_classes_of_the_grids_are_named(run_folder, num_samples, text):
    names = ["red", "<b>"]
    config = {"class_labels": True, "class_names": names, "num_samples": num_samples}
    page = Page(write_report(run_folder(LOG, [1], **config)))
    assert text in page.text
    assert f"samples of epoch 1. {text.rstrip('.')}" in page.pictures
    asked = "--labels 'red,<b>' --guidance-scale 2 --out kinds.png"
    assert asked in page.text


def test_commands_go_on_from_the_run(run_folder):
    folder = run_folder(LOG, num_epochs=3)
    assert "--resume" not in Page(write_report(folder)).text  # it has ended
    (folder / "config.yaml").write_text(Config(num_epochs=4).to_yaml())
    text = Page(write_report(folder)).text
    assert f"ddpm-train --run-dir {folder} --resume" in text
    assert f"ddpm-evaluate --weights {folder} --out {folder}/evaluation" in text


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
    last, *before = [int(text.rpartition(" ")[2]) for text in page.pictures]
    assert last == 800 and before == [10, 20, 30, 50, 70, 110, 160, 240, 360, 540]
    assert "10 of 79 grids" in page.text


def test_few_grids_are_all_shown(run_folder):
    page = Page(write_report(run_folder(grids=range(1, MOST_GRIDS + 1))))
    assert len(page.pictures) == MOST_GRIDS
    assert "11 of 11 grids" in page.text


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
    assert r"a\udcff" in page.pictures


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
        callback.on_epoch_begin(epoch)
        callback.on_train_batch_end(0)
        callback.on_epoch_end(epoch, {})
        yield epoch + 1
    callback.on_train_end()


@pytest.mark.parametrize("every, written", [(2, [2, 4, 5]), (0, [5]), (5, [5])])
def test_page_follows_the_grids_and_the_end(run_folder, every, written):
    folder = run_folder(log="epoch,loss\n", num_epochs=5)
    grids = SampleGrid(folder / "samples", every=every)
    seen = []
    for _ in train(Report(folder, grids, IMAGES), grids, folder / "log.csv", epochs=5):
        seen.append(shown_epochs(folder))
    seen.append(shown_epochs(folder))
    assert sorted(set(seen) - {None}) == written


def shown_epochs(folder):
    if not (folder / "report.html").exists():
        return None
    rows = dict(row[:2] for row in Page(folder / "report.html").rows)
    return int(rows["epochs"].split()[0])


@pytest.mark.parametrize("steps, whole", [(10, 75.0), (3, 75.0), (1, 61.5)])
def test_only_steps_count_also_for_those_before_a_stop(
    run_folder, monkeypatch, steps, whole
):
    """50 s of compilation and 10 s of measures come once, 1.5 s with each of 10 steps.

    Of a single step nobody knows how long another takes.
    """
    ends = [50 + 1.5 * (n + 1) for n in range(steps)]
    clock = iter([0.0, *ends, ends[-1] + 10])
    monkeypatch.setattr(report, "monotonic", clock.__next__)
    folder = run_folder(batch_size=4)
    callback = Report(folder, SampleGrid(folder / "samples", every=0), IMAGES)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    for batch in range(steps):
        callback.on_train_batch_end(batch)
    callback.on_epoch_end(0)
    assert Record.read(folder).seconds == {1: whole}


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
    assert list(train(Report(folder, grids, IMAGES), grids, folder / "log.csv", 1)) == [
        1
    ]
    assert capsys.readouterr().err.startswith(f"warning: {folder}/report.html: [Errno")


def test_any_exception_of_the_report_is_one_warning(run_folder, monkeypatch, capsys):
    folder = run_folder(log=LOG)
    grids = SampleGrid(folder / "samples", every=1)

    def fails(*args):
        raise OverflowError("too large")

    monkeypatch.setattr(report, "save_curves", fails)
    assert list(train(Report(folder, grids, IMAGES), grids, folder / "log.csv", 3)) == [
        1,
        2,
        3,
    ]
    assert capsys.readouterr().err == (
        f"warning: {folder}/report.html: too large; training goes on\n"
    )


def test_configuration_spoilt_in_training_is_a_warning(run_folder, capsys):
    folder = run_folder(log=LOG)
    grids = SampleGrid(folder / "samples", every=1)
    for epoch in train(Report(folder, grids, IMAGES), grids, folder / "log.csv", 2):
        (folder / "config.yaml").write_text("seed: x\n")
    assert epoch == 2
    assert capsys.readouterr().err.startswith(f"warning: {folder}/report.html: ")


def test_callback_refuses_a_folder_without_a_run_before_training(tmp_path):
    callback = Report(tmp_path, SampleGrid(tmp_path / "samples"), IMAGES)
    with pytest.raises(InputError, match="holds no config.yaml"):
        callback.on_train_begin()
