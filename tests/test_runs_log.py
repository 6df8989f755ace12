"""The log of a run: what it holds, and what becomes of one that is damaged."""

import os

import numpy as np
import pytest

from ddpm_keras.files import written_whole
from ddpm_keras.runs import log as log_module
from ddpm_keras.runs.log import Log, open_log, read_log, save_curves

HEADER = "epoch,loss,val_loss,kid"
LINES = [HEADER, "0,0.5,0.6,NA", "1,0.25,0.3,0.7", "2,0.125,0.2,NA"]
ROWS = "".join(f"{line}\r\n" for line in LINES)


def test_each_epoch_is_a_row_of_the_columns_there_are(tmp_path):
    lines = [HEADER]
    log = Log(tmp_path / "log.csv", lines)
    log.on_epoch_end(0, {"loss": 1.0, "val_loss": 2.0})
    log.on_epoch_end(1, {"loss": 3.0, "val_loss": 4.0, "kid": 5.0, "other": 6.0})
    assert lines == [HEADER, "0,1.0,2.0,NA", "1,3.0,4.0,5.0"]
    assert (tmp_path / "log.csv").read_bytes().decode().split("\r\n") == [*lines, ""]


def test_a_log_of_an_earlier_version_keeps_its_columns(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(b"epoch,loss,val_loss,kid,swd\r\n0,1.0,2.0,3.0,4.0\r\n")
    log = Log(path, open_log(path, 1, None))
    log.on_epoch_end(1, {"loss": 1.5, "val_loss": 2.5, "kid": 3.5})
    assert path.read_text().splitlines()[2:] == ["1,1.5,2.5,3.5,NA"]
    epochs, curves = read_log(path)
    np.testing.assert_array_equal(epochs, [1, 2])
    np.testing.assert_array_equal(curves["kid"], [3.0, 3.5])
    np.testing.assert_array_equal(curves["swd"], [4.0, np.nan])


def test_full_disk_costs_no_row_and_one_warning(tmp_path, monkeypatch, capsys):
    def full(path):
        raise OSError(28, "No space left on device")

    path = tmp_path / "log.csv"
    log = Log(path, [HEADER])
    log.on_epoch_end(0, {"loss": 1.0})
    monkeypatch.setattr(log_module, "written_whole", full)
    for epoch in (1, 2):
        log.on_epoch_end(epoch, {"loss": 1.0})
    monkeypatch.setattr(log_module, "written_whole", written_whole)
    log.on_epoch_end(3, {"loss": 1.0})
    assert path.read_text().splitlines() == [
        HEADER,
        *(f"{epoch},1.0,NA,NA" for epoch in range(4)),
    ]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"warning: {path}: [Errno 28] No space left on device; training goes on"
    )


def test_rows_are_forced_to_the_disk(tmp_path, monkeypatch):
    forced = []
    monkeypatch.setattr(os, "fsync", lambda file: forced.append(os.fstat(file).st_size))
    Log(tmp_path / "log.csv", [HEADER]).on_epoch_end(0, {"loss": 1.0})
    assert forced == [(tmp_path / "log.csv").stat().st_size]


# A run goes on.


def test_rows_of_epochs_that_run_again_are_cut(tmp_path, capsys):
    path = tmp_path / "log.csv"
    path.write_bytes(ROWS.encode())
    assert open_log(path, 1, LINES[:2]) == LINES[:2]
    assert path.read_text().splitlines() == LINES[:2]
    before = path.stat().st_mtime_ns
    assert open_log(path, 1, LINES) == LINES[:2]  # also those in the checkpoint
    assert path.stat().st_mtime_ns == before
    path.write_bytes((ROWS + "3,0.1").encode())  # cut in a row that does not count
    assert open_log(path, 3, LINES) == LINES
    assert capsys.readouterr().err == "" and os.listdir(tmp_path) == ["log.csv"]


def test_run_without_a_checkpoint_begins_its_log(tmp_path, capsys):
    path = tmp_path / "log.csv"
    assert open_log(path, 0, None) == [HEADER] and not path.exists()
    path.write_bytes(ROWS.encode())
    assert open_log(path, 0, None) == [HEADER]
    assert path.read_text().splitlines() == [HEADER]
    assert capsys.readouterr().err == ""


def make_fifo(path):
    path.unlink()
    os.mkfifo(path)


def make_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "byte-order mark": lambda p: p.write_bytes(b"\xef\xbb\xbf" + ROWS.encode()),
    "LF": lambda p: p.write_bytes(ROWS.replace("\r", "").encode()),
    "CR doubled": lambda p: p.write_bytes(ROWS.replace("\r", "\r\r").encode()),
    "zero bytes": lambda p: p.write_bytes(ROWS.encode() + bytes(9)),
    "zeros only": lambda p: p.write_bytes(bytes(len(ROWS))),
    "glued rows": lambda p: p.write_bytes(ROWS.replace("NA\r\n1", "N1").encode()),
    "not UTF-8": lambda p: p.write_bytes(ROWS.encode() + b"\xff\xfe"),
    "a column more": lambda p: p.write_text(ROWS.replace("\r", ",mine")),
    "folder": make_folder,
    "FIFO": make_fifo,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_odd_log_is_kept_aside_and_its_rows_come_back(tmp_path, capsys, damage):
    path = tmp_path / "log.csv"
    path.write_bytes(ROWS.encode())
    damage(path)
    odd = path.read_bytes() if path.is_file() else None
    assert open_log(path, 3, LINES) == LINES
    assert path.read_bytes() == ROWS.encode()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"warning: {path}: its 3 rows are written anew, the file that was there is "
        "kept as log.csv.bad"
    )
    if odd is not None:
        assert (tmp_path / "log.csv.bad").read_bytes() == odd
    assert sorted(os.listdir(tmp_path)) == ["log.csv", "log.csv.bad"]


@pytest.mark.parametrize("length", [None, 0, len(HEADER) // 2, len(ROWS) - 5])
def test_log_that_is_missing_or_cut_short_is_completed(tmp_path, capsys, length):
    path = tmp_path / "log.csv"
    if length is not None:
        path.write_bytes(ROWS.encode()[:length])
    assert open_log(path, 3, LINES) == LINES
    assert path.read_bytes() == ROWS.encode()
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"warning: {path}: its 3 rows are written anew"
    assert os.listdir(tmp_path) == ["log.csv"]


def test_rows_of_an_earlier_version_are_found_by_their_numbers(tmp_path, capsys):
    """Its checkpoints hold none."""
    path = tmp_path / "log.csv"
    text = "epoch,loss,swd\n0,0.5,1.0\n2,0.125\0\n3,0.1,1.0\n3,9,9\n7,1,1\n"
    path.write_text(text)
    lines = ["epoch,loss,swd", "0,0.5,1.0", "1,NA,NA", "2,0.125,NA", "3,0.1,1.0"]
    assert open_log(path, 4, None) == lines
    assert path.read_text().splitlines() == lines
    assert (tmp_path / "log.csv.bad").read_text() == text
    assert capsys.readouterr().err.count("warning: ") == 1


def test_epoch_whose_validation_failed_has_a_row(tmp_path):
    path = tmp_path / "log.csv"
    path.write_bytes(ROWS.encode())
    assert open_log(path, 4, LINES)[-1] == "3,NA,NA,NA"


# Reading and plotting.


@pytest.mark.parametrize(
    "tail",
    [b"3,0.1," + b"9" * 200_000, b"\xff\xfe,1,2", bytes(20), b"9" * 5000 + b",1,2"],
    ids=["long field", "not UTF-8", "zero bytes", "huge epoch"],
)
def test_damaged_log_is_read_as_far_as_it_goes(tmp_path, tail):
    path = tmp_path / "log.csv"
    path.write_bytes(b"\xef\xbb\xbf" + ROWS.encode() + tail)
    epochs, curves = read_log(path)
    assert list(epochs[:3]) == [1, 2, 3]
    assert list(curves["loss"][:3]) == [0.5, 0.25, 0.125]


def test_names_of_columns_are_no_formulas(tmp_path):
    curves = {name: np.array([1.0, 2.0]) for name in ("$x_{", "a$b$^", "y" * 100_000)}
    save_curves(tmp_path / "loss.png", np.array([1, 2]), curves)
    assert (tmp_path / "loss.png").stat().st_size > 1000
