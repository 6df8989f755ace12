"""Run folders: number, configuration, and what is refused."""

import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from refusal import refusal

from ddpm_keras.config import Config
from ddpm_keras.config_file import load_config
from ddpm_keras.errors import InputError
from ddpm_keras.runs.folder import (
    check_same_run,
    discard_unused,
    make_run_folder,
    remove_leftovers,
    resume_run_folder,
)

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


def test_configuration_is_on_the_disk_before_it_has_its_name(monkeypatch):
    path, forced = Path("mine/config.yaml"), []

    def fsync(file):
        forced.append((os.fstat(file).st_size, path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    make_run_folder(CONFIG, "a", "mine")
    assert forced == [(path.stat().st_size, False)]


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


def test_full_disk_is_reported_in_one_line(monkeypatch):
    def fsync(file):
        raise OSError(28, "No space left on device")  # which names no file

    monkeypatch.setattr(os, "fsync", fsync)
    message = refusal(make_run_folder, CONFIG, "a", "mine")
    assert_cannot_write(message, "config.yaml", "No space left on device")


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


def test_runs_started_at_once_share_no_folder():
    start = threading.Barrier(5)

    def make(_):
        start.wait()
        return make_run_folder(CONFIG, "a")

    with ThreadPoolExecutor(5) as pool:
        made = list(pool.map(make, range(5)))
    assert len(set(made)) == 5
    assert all(load_config(folder / "config.yaml") == CONFIG for folder in made)


# Leftovers of killed processes.

LEFTOVERS = [
    *(".config.yaml.4711.tmp", ".log.csv.k3_2abcd.tmp", ".loss.png.1.tmp"),
    *(".best.safetensors.a.tmp", ".weights.safetensors.a.tmp", ".report.html.a.tmp"),
    *(".run.json.a.tmp", ".training.png.a.tmp"),
    *(
        "samples/.epoch-0010.png.a.tmp",
        "checkpoints/.step-00000007.tmp",
        "checkpoints/.step-00000007.k3_2abcd.tmp",
    ),
]
MINE = [
    *(".mine.tmp", ".config.yaml.tmp", "notes/.mine.tmp", "notes/.log.csv.a.tmp"),
    *("samples/.photo.png.a.tmp", "checkpoints/.step-7.tmp", "checkpoints/step-1/a"),
]


def test_only_leftovers_of_ours_are_removed(tmp_path):
    for number, name in enumerate([*LEFTOVERS, *MINE]):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 2:
            path.touch()
        else:  # a folder, as `written_whole` makes
            path.mkdir()
            (path / "half").touch()
    remove_leftovers(tmp_path)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert set(MINE) <= found and not set(LEFTOVERS) & found


def test_run_killed_while_it_wrote_its_configuration_starts_again():
    folder = Path("mine")
    (folder / ".config.yaml.k3_2abcd.tmp").mkdir(parents=True)
    (folder / ".config.yaml.k3_2abcd.tmp" / "config.yaml").write_text("half")
    (folder / ".config.yaml.4711.tmp").write_text("half")
    assert make_run_folder(CONFIG, "a", "mine") == folder
    discard_unused(folder)
    assert not folder.exists()


def test_folder_that_is_gone_needs_no_removal():
    folder = make_run_folder(CONFIG, "a")
    shutil.rmtree(folder)
    discard_unused(folder)


def test_keys_of_a_checkpoint_and_of_a_later_version_are_compared(tmp_path):
    before = CONFIG.model_dump()
    check_same_run(tmp_path, before, CONFIG)
    check_same_run(tmp_path, {**before, "keep": 9, "learning_rate": 1.0}, CONFIG)
    del before["patch_size"]  # which was not there then
    check_same_run(tmp_path, before, CONFIG)
    other = CONFIG.model_copy(update={"patch_size": 2, "ema": 0.5})
    message = refusal(check_same_run, tmp_path, before, other)
    assert "values of patch_size (was 1, is 2), ema (was 0.999, is 0.5); " in message


def test_path_of_other_letters_is_kept_in_any_locale(monkeypatch):
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    monkeypatch.setattr("locale.getencoding", lambda: "ascii")
    config = CONFIG.model_copy(update={"data_dir": "ś/花"})
    folder = make_run_folder(config, "a")
    assert resume_run_folder(config, folder) == folder
    assert "花".encode() in (folder / "config.yaml").read_bytes()
