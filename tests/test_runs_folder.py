"""Run folders: number, configuration, and what is refused."""

import re
from pathlib import Path

import pytest
from refusal import refusal

from ddpm_keras.config import Config, load_config
from ddpm_keras.errors import InputError
from ddpm_keras.runs.folder import make_run_folder

CONFIG = Config(dataset_name="petals", img_size=[8, 16], data_dir="ü: #x", seed=7)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_runs_are_numbered_by_name():
    made = [make_run_folder(CONFIG, name).as_posix() for name in "aaba"]
    assert made == ["runs/a/001", "runs/a/002", "runs/b/001", "runs/a/003"]


def test_number_follows_the_greatest_one():
    for name in ("001", "007", "notes", "8x"):
        Path("runs/a", name).mkdir(parents=True)
    assert make_run_folder(CONFIG, "a") == Path("runs/a/008")
    Path("runs/a/999").mkdir()
    assert make_run_folder(CONFIG, "a") == Path("runs/a/1000")
    assert make_run_folder(CONFIG, "a") == Path("runs/a/1001")


def test_number_that_another_run_takes_meanwhile_is_skipped(monkeypatch):
    first = make_run_folder(CONFIG, "a")
    before = (first / "config.yaml").stat().st_mtime_ns
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))
    assert make_run_folder(CONFIG, "a") == Path("runs/a/002")
    assert (first / "config.yaml").stat().st_mtime_ns == before


def test_folder_holds_the_configuration_alone():
    folder = make_run_folder(CONFIG, "a")
    assert [file.name for file in folder.iterdir()] == ["config.yaml"]
    assert load_config(folder / "config.yaml") == CONFIG


@pytest.mark.parametrize("exists", [False, True])
def test_run_dir_is_taken_as_it_is(tmp_path, exists):
    folder = tmp_path / "some" / "where"
    if exists:
        folder.mkdir(parents=True)
    assert make_run_folder(CONFIG, "a", str(folder)) == folder
    assert load_config(folder / "config.yaml") == CONFIG
    assert not Path("runs").exists()


def test_folder_that_holds_something_is_refused_and_kept():
    folder = Path("mine")
    folder.mkdir()
    (folder / ".hidden").write_text("precious")
    message = refusal(make_run_folder, CONFIG, "a", "mine")
    assert message.startswith("--run-dir: mine is not empty")
    assert [file.name for file in folder.iterdir()] == [".hidden"]


def test_run_is_not_written_over():
    folder = make_run_folder(CONFIG, "a", "mine")
    before = (folder / "config.yaml").read_bytes()
    with pytest.raises(InputError, match="mine holds a run; add --resume"):
        make_run_folder(Config(), "a", "mine")
    assert (folder / "config.yaml").read_bytes() == before


def assert_cannot_write(message, path, reason):
    assert re.fullmatch(
        rf"--run-dir: cannot write to {path}\S* \({reason}\); "
        "name a folder that you may write to",
        message,
    )


@pytest.mark.parametrize(
    "file, run_dir",
    [("mine", "mine"), ("mine", "mine/run"), ("runs", None), ("runs/a", None)],
)
def test_file_in_the_way_is_reported_in_one_line(file, run_dir):
    Path(file).parent.mkdir(exist_ok=True)
    Path(file).write_text("precious")
    message = refusal(make_run_folder, CONFIG, "a", run_dir)
    assert_cannot_write(message, file, "(File exists|Not a directory)")
    assert Path(file).read_text() == "precious"


@pytest.mark.parametrize("run_dir", [None, "mine"])
def test_folder_without_permission_is_reported_in_one_line(monkeypatch, run_dir):
    # Raised by hand: an administrator, as in a container, has every permission.
    def mkdir(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    message = refusal(make_run_folder, CONFIG, "a", run_dir)
    assert_cannot_write(message, run_dir or "runs/a", "Permission denied")


@pytest.mark.parametrize("link", ["runs", "runs/a"])
def test_link_to_nowhere_is_reported_and_does_not_hang(monkeypatch, link):
    Path(link).parent.mkdir(exist_ok=True)
    Path(link).symlink_to("nowhere/at/all")
    mkdir, calls = Path.mkdir, []

    def counted(self, *args, **kwargs):
        calls.append(self)
        assert len(calls) < 100
        mkdir(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", counted)
    assert_cannot_write(refusal(make_run_folder, CONFIG, "a"), link, "File exists")
